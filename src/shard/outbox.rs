//! The queue of frames that are to be written to one connection.

use crate::protocol::{Frame, FrameKind};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Write},
    time::Instant,
};

/// A queue of shared frames, owned by the connection's shard. All output passes through it, so the
/// order within a connection never changes.
///
/// An idle outbox has no buffer. The owner limits it by [`Outbox::bytes`].
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Frame>,
    /// The size of the queued frames, without the written part of the first one.
    bytes: usize,
    /// How many bytes of the first frame are written.
    written: usize,
    /// The number of frames that are written, less the number of control frames that were queued.
    messages: i64,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Written {
    /// The queue is empty.
    All,
    /// The socket accepts no more data for now.
    Blocked,
    /// The connection has written as much as it may in this turn.
    BudgetUsed,
}

/// Frames up to this average size are copied into one buffer, which costs less than a vectored
/// write.
const COPY_FRAME_MAX: usize = 2 * 1024;
/// Bytes that are copied for one write; one more frame may exceed it.
const COPY_MAX: usize = 64 * 1024;
/// Maximum number of slices in one vectored write.
const IO_SLICES_MAX: usize = 64;
/// Maximum number of bytes that one connection writes in a turn.
const TURN_BYTES: usize = 256 * 1024;
/// Capacity for handles that an empty outbox keeps.
const IDLE_CAPACITY: usize = 16;

impl Outbox {
    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        self.frames.push_back(frame);
    }

    /// Queues a frame that is no message of the protocol.
    pub(super) fn push_control(&mut self, frame: Frame) {
        self.messages -= 1;
        self.push(frame);
    }

    /// The number of messages that are written. A write counts its frames together, so that counting
    /// costs a message nothing.
    pub(super) fn messages(&self) -> u64 {
        u64::try_from(self.messages).unwrap_or(0)
    }

    /// The number of bytes that are not written yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.frames.capacity() <= IDLE_CAPACITY
    }

    /// The number of queued frames.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// When the first event in the queue was accepted; `None` for another frame.
    pub(super) fn accepted_at(&self) -> Option<Instant> {
        self.frames.front()?.accepted_at()
    }

    /// Drops the queued frames, except the rest of a partially written one: the peer must be able
    /// to decode what follows.
    pub(super) fn clear(&mut self) {
        let dropped = self.frames.iter().skip(usize::from(0 < self.written));
        let controls = dropped.filter(|frame| frame.kind() == FrameKind::Control).count();
        self.messages += i64::try_from(controls).unwrap_or(0);
        self.frames.truncate(usize::from(0 < self.written));
        self.frames.shrink_to_fit();
        self.bytes =
            self.frames.iter().map(|frame| frame.bytes().len()).sum::<usize>() - self.written;
    }

    /// Writes as much as the socket accepts, using `staging` to join small frames.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) fn write_to(
        &mut self,
        socket: &mut impl Write,
        staging: &mut Vec<u8>,
    ) -> io::Result<Written> {
        let mut turn_bytes_left = TURN_BYTES;
        while let Some(first) = self.frames.front() {
            if turn_bytes_left == 0 {
                return Ok(Written::BudgetUsed);
            }
            let first = &first.bytes()[self.written..];
            let offered = first.len();
            let result = if self.frames.len() == 1 {
                socket.write(first)
            } else if self.bytes / self.frames.len() <= COPY_FRAME_MAX {
                self.stage(staging);
                socket.write(staging)
            } else {
                let (slices, count) = self.slices();
                socket.write_vectored(&slices[..count])
            };
            match result {
                Ok(0) if 0 < offered => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.advance(len);
                    turn_bytes_left = turn_bytes_left.saturating_sub(len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Written::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }

    fn stage(&self, staging: &mut Vec<u8>) {
        staging.clear();
        let mut skip = self.written;
        for frame in &self.frames {
            staging.extend_from_slice(&frame.bytes()[skip..]);
            skip = 0;
            if COPY_MAX <= staging.len() {
                break;
            }
        }
    }

    /// The frames that one turn may write, up to the maximum number of slices.
    fn slices(&self) -> ([IoSlice<'_>; IO_SLICES_MAX], usize) {
        let mut slices = [IoSlice::new(&[]); IO_SLICES_MAX];
        let (mut count, mut bytes, mut skip) = (0, 0, self.written);
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            if TURN_BYTES <= bytes {
                break;
            }
            *slice = IoSlice::new(&frame.bytes()[skip..]);
            (count, bytes, skip) = (count + 1, bytes + slice.len(), 0);
        }
        (slices, count)
    }

    /// Removes written frames, and records how much of the next one is written.
    fn advance(&mut self, len: usize) {
        let frames = self.frames.len();
        self.bytes -= len;
        self.written += len;
        while let Some(first) = self.frames.front()
            && first.bytes().len() <= self.written
        {
            self.written -= first.bytes().len();
            self.frames.pop_front();
        }
        self.messages += i64::try_from(frames - self.frames.len()).unwrap_or(0);
        if self.frames.is_empty() && IDLE_CAPACITY < self.frames.capacity() {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that accepts a given number of bytes, then blocks.
    #[derive(Default)]
    struct LimitedSocket {
        taken: Vec<u8>,
        room: usize,
        calls: usize,
    }

    impl Write for LimitedSocket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let len = bytes.len().min(self.room);
            if len == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.taken.extend_from_slice(&bytes[..len]);
            self.room -= len;
            Ok(len)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&joined)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(byte: u8, len: usize) -> Frame {
        Frame::raw(vec![byte; len])
    }

    fn outbox(frames: &[(u8, usize)]) -> (Outbox, Vec<u8>) {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for (byte, len) in frames {
            outbox.push(frame(*byte, *len));
            expected.resize(expected.len() + len, *byte);
        }
        (outbox, expected)
    }

    #[test]
    fn a_partial_write_continues_at_its_byte() {
        for big in [3, 20_000] {
            let (_, expected) = outbox(&[(1, 5), (2, big), (3, 1), (4, 7)]);
            let step = (expected.len() / 50).max(1);
            for first in (1..expected.len()).step_by(step) {
                let (mut outbox, _) = outbox(&[(1, 5), (2, big), (3, 1), (4, 7)]);
                let mut pipe = LimitedSocket { room: first, ..LimitedSocket::default() };
                assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::Blocked);
                assert_eq!(outbox.bytes(), expected.len() - first);
                pipe.room = usize::MAX;
                assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
                assert_eq!(pipe.taken, expected, "cut at {first}");
                assert_eq!((outbox.bytes(), outbox.written), (0, 0));
            }
        }
    }

    #[test]
    fn queued_frames_are_sent_in_one_write() {
        let (mut outbox, expected) = outbox(&[(1, 100); 50]);
        let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
        assert_eq!((pipe.calls, pipe.taken), (1, expected));
    }

    #[test]
    fn the_bytes_of_a_turn_are_limited() {
        let (mut outbox, expected) = outbox(&[(1, 100_000); 10]);
        let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
        let mut turns = 1;
        while outbox.write_to(&mut pipe, &mut Vec::new()).unwrap() == Written::BudgetUsed {
            turns += 1;
        }
        assert!(1 < turns);
        assert_eq!(pipe.taken, expected);
    }

    #[test]
    fn clearing_keeps_the_rest_of_a_cut_frame() {
        let (mut outbox, _) = outbox(&[(1, 10), (2, 10), (3, 10)]);
        let mut pipe = LimitedSocket { room: 4, ..LimitedSocket::default() };
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::Blocked);
        outbox.clear();
        assert_eq!(outbox.bytes(), 6);
        outbox.push(frame(9, 2));
        pipe.room = usize::MAX;
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
        assert_eq!(pipe.taken, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9]);
    }

    #[test]
    fn messages_are_counted_when_they_are_written_and_control_frames_never() {
        let (mut outbox, _) = outbox(&[(1, 10), (2, 10)]);
        outbox.push_control(Frame::ping());
        let mut pipe = LimitedSocket { room: 19, ..LimitedSocket::default() };
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::Blocked);
        assert_eq!(outbox.messages(), 0, "the ping in the queue is subtracted already");
        outbox.push(Frame::text(FrameKind::Event, "dropped"));
        outbox.push_control(Frame::close(4100, ""));
        outbox.clear();
        pipe.room = usize::MAX;
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
        assert_eq!(outbox.messages(), 2, "what was dropped is not counted");
    }

    #[test]
    fn clearing_between_frames_empties_the_queue() {
        let (mut outbox, _) = outbox(&[(1, 10), (2, 10)]);
        outbox.clear();
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn an_empty_outbox_releases_its_memory() {
        let (mut outbox, _) = outbox(&[(1, 1); 1_000]);
        let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
        assert!(outbox.frames.capacity() <= IDLE_CAPACITY);
    }

    /// A socket whose first calls fail with these errors.
    struct Failing(Vec<ErrorKind>, LimitedSocket);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.pop() {
                Some(ErrorKind::WriteZero) => Ok(0),
                Some(kind) => Err(kind.into()),
                None => self.1.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_interrupted_write_is_repeated_and_other_errors_are_returned() {
        let write = |kinds: &[ErrorKind]| {
            let (mut outbox, expected) = outbox(&[(1, 10), (2, 10)]);
            let pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
            let mut socket = Failing(kinds.to_vec(), pipe);
            let written = outbox.write_to(&mut socket, &mut Vec::new());
            (written.map_err(|error| error.kind()), socket.1.taken == expected)
        };
        assert_eq!(write(&[ErrorKind::Interrupted; 3]), (Ok(Written::All), true));
        assert_eq!(write(&[ErrorKind::WriteZero]), (Err(ErrorKind::WriteZero), false));
        assert_eq!(write(&[ErrorKind::BrokenPipe]), (Err(ErrorKind::BrokenPipe), false));
        assert_eq!(write(&[ErrorKind::WouldBlock]), (Ok(Written::Blocked), false));
    }

    #[test]
    fn a_turn_writes_no_more_than_its_bytes_and_one_frame() {
        for (len, count, taken) in
            [(100_000, 10, 300_000), (131_072, 4, 262_144), (262_144, 2, 262_144)]
        {
            let (mut outbox, expected) = outbox(&vec![(1, len); count]);
            let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
            assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::BudgetUsed);
            assert_eq!((pipe.taken.len(), pipe.calls), (taken, 1), "{len}");
            assert_eq!(outbox.bytes(), expected.len() - taken);
        }
        // A turn that ends with the last byte has written everything.
        let (mut outbox, _) = outbox(&[(1, 262_144)]);
        let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
    }

    #[test]
    fn small_frames_are_joined_up_to_64_kib_and_large_ones_listed_up_to_64() {
        for (len, count, first) in
            [(100, 2_000, 65_600), (2_048, 100, 65_536), (2_049, 100, 131_136)]
        {
            let (mut outbox, expected) = outbox(&vec![(1, len); count]);
            let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
            let mut staging = Vec::new();
            let mut counted = Counted(Vec::new(), &mut pipe);
            assert_eq!(outbox.write_to(&mut counted, &mut staging).unwrap(), Written::All);
            assert_eq!(counted.0[0], first, "{len}");
            assert_eq!(pipe.taken, expected);
        }
    }

    /// Records the size of each call.
    struct Counted<'a>(Vec<usize>, &'a mut LimitedSocket);

    impl Write for Counted<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.len());
            self.1.write(bytes)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.0.push(slices.iter().map(|slice| slice.len()).sum());
            self.1.write_vectored(slices)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_empty_frame_is_skipped() {
        let (mut outbox, expected) = outbox(&[(1, 0), (2, 3), (3, 0)]);
        let mut pipe = LimitedSocket { room: usize::MAX, ..LimitedSocket::default() };
        assert_eq!(outbox.write_to(&mut pipe, &mut Vec::new()).unwrap(), Written::All);
        assert!(outbox.is_empty() && pipe.taken == expected);
    }
}
