//! Reading and writing of a worker, with buffers shared by its connections.

use super::{connection::Stage, worker::Worker};
use crate::{
    frame::{self, Header},
    number::{now_us, wide},
    wire::{self, Kind},
};
use std::io::{ErrorKind, Read, Write};

/// The maximum number of consecutive reads from one connection, so that the others are read too.
const READS_PER_TURN: usize = 8;
/// The maximum size of a frame that is read completely; the rest of a longer one is discarded.
const WHOLE_BYTES_MAX: usize = 32 * 1024;
/// The maximum size of the head of an HTTP response.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The result of a call of `read`.
enum Got {
    Bytes(usize),
    Nothing,
    End(String),
}

impl Worker {
    /// Reads the available data of a connection.
    pub(super) fn read(&mut self, at: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(at) else { return };
            let Some(stream) = connection.stream.as_mut().filter(|_| connection.reads) else {
                return;
            };
            let kept = connection.tail.len();
            self.buffer[..kept].copy_from_slice(&connection.tail);
            connection.tail.clear();
            let got = match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => Got::End("the server closed the connection".to_owned()),
                Ok(count) => Got::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => Got::Bytes(0),
                Err(error) => Got::End(format!("the connection broke: {error}")),
            };
            match got {
                Got::Bytes(count) => {
                    self.tally.counters.bytes += wide(count);
                    self.take(at, kept + count);
                    // A read that did not fill the buffer has emptied the socket.
                    if 0 < count && kept + count < self.buffer.len() {
                        return;
                    }
                }
                Got::Nothing => {
                    connection.tail.extend_from_slice(&self.buffer[..kept]);
                    return;
                }
                Got::End(why) => {
                    self.on_lost(at, || why);
                    return;
                }
            }
        }
        self.again.push(at);
    }

    /// Processes the frames in the first `filled` bytes of the buffer, and keeps an incomplete one.
    fn take(&mut self, at: usize, filled: usize) {
        // The buffer is moved out so that the rest of the worker can be borrowed.
        let buffer = std::mem::take(&mut self.buffer);
        let mut bytes = &buffer[..filled];
        if self.connections[at].stage == Stage::Upgrading {
            match self.take_head(at, bytes) {
                Some(rest) => bytes = rest,
                None => bytes = &[],
            }
        }
        let before = self.tally.counters.delivered;
        let now = now_us();
        self.take_frames(at, bytes, now);
        let delivered = self.tally.counters.delivered - before;
        if delivered != 0 {
            self.gate.add(delivered);
        }
        self.buffer = buffer;
    }

    fn take_frames(&mut self, at: usize, mut bytes: &[u8], now: u64) {
        let skipped = self.connections[at].skip.min(bytes.len());
        self.connections[at].skip -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            let header = match frame::header(bytes) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(frame::Invalid) => {
                    self.on_lost(at, || "a frame that no server may send".to_owned());
                    return;
                }
            };
            let total = header.head_bytes.saturating_add(header.payload_bytes);
            let there = total.min(bytes.len());
            if there < total && (total <= WHOLE_BYTES_MAX || there < WHOLE_BYTES_MAX) {
                break;
            }
            self.on_frame(at, header, &bytes[header.head_bytes..there], now);
            if self.connections[at].stream.is_none() {
                return;
            }
            self.connections[at].skip = total - there;
            bytes = &bytes[there..];
        }
        let tail = &mut self.connections[at].tail;
        tail.extend_from_slice(bytes);
        if bytes.is_empty() && tail.capacity() != 0 {
            *tail = Vec::new();
        }
    }

    /// Checks the response to the upgrade request; returns the bytes after it once it is complete.
    fn take_head<'a>(&mut self, at: usize, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let Some(end) = wire::position(bytes, b"\r\n\r\n") else {
            if bytes.len() < HEAD_BYTES_MAX {
                self.connections[at].tail.extend_from_slice(bytes);
            } else {
                self.on_lost(at, || "an answer without end".to_owned());
            }
            return None;
        };
        if !bytes.starts_with(b"HTTP/1.1 101") {
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            self.on_lost(at, || format!("no WebSocket: {line}"));
            return None;
        }
        self.connections[at].stage = Stage::Greeting;
        Some(&bytes[end + 4..])
    }

    fn on_frame(&mut self, at: usize, header: Header, payload: &[u8], now: u64) {
        match header.opcode {
            frame::TEXT | frame::BINARY | frame::CONTINUATION => self.on_message(at, payload, now),
            frame::PING => {
                self.outgoing.clear();
                let mask = wire::mask(&mut self.seed);
                frame::push_masked(&mut self.outgoing, frame::PONG, payload, mask);
                self.send(at);
            }
            frame::CLOSE => {
                let code = payload.first_chunk().map_or(1_005, |code| u16::from_be_bytes(*code));
                *self.tally.counters.close_codes.entry(code).or_default() += 1;
                let reason = payload.get(2..).unwrap_or_default();
                let reason = String::from_utf8_lossy(reason).into_owned();
                self.on_lost(at, || format!("the server closed with {code} {reason}"));
            }
            _ => {}
        }
    }

    fn on_message(&mut self, at: usize, message: &[u8], now: u64) {
        let connection = &mut self.connections[at];
        if matches!(connection.stage, Stage::Ready | Stage::Subscribing | Stage::Unsubscribed)
            && let Some(stamp) = self.stamps.read(message)
        {
            let in_order = connection.receive(stamp);
            let counters = &mut self.tally.counters;
            counters.delivered += 1;
            counters.disorder += u64::from(!in_order);
            self.tally.latency.record(now.saturating_sub(stamp.at_us));
            return;
        }
        self.on_control(at, message);
    }

    fn on_control(&mut self, at: usize, message: &[u8]) {
        match wire::event_name(message) {
            b"pusher:connection_established" => self.on_greeting(at, message),
            b"pusher_internal:subscription_succeeded"
                if self.connections[at].stage == Stage::Subscribing =>
            {
                self.on_ready(at);
            }
            b"pusher_internal:member_added" => self.tally.counters.added += 1,
            b"pusher_internal:member_removed" => self.tally.counters.removed += 1,
            b"pusher:ping" => self.send_text(at, wire::PONG),
            b"pusher:error" | b"pusher:subscription_error" => self.on_error(at, message),
            _ => {}
        }
    }

    fn on_greeting(&mut self, at: usize, message: &[u8]) {
        let Some(socket_id) = wire::socket_id(message) else {
            self.on_lost(at, || "a greeting without socket_id".to_owned());
            return;
        };
        self.connections[at].socket_id = socket_id.into();
        if self.plans[usize::from(self.connections[at].plan)].kind == Kind::None {
            self.on_ready(at);
        } else {
            self.subscribe(at);
        }
    }

    /// Sends the subscription of a connection.
    pub(super) fn subscribe(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        connection.stage = Stage::Subscribing;
        let plan = &self.plans[usize::from(connection.plan)];
        let socket_id = &connection.socket_id;
        let text = wire::subscribe(plan, connection.id, socket_id, &self.target.key, &self.signer);
        self.send_text(at, &text);
    }

    fn on_error(&mut self, at: usize, message: &[u8]) {
        let text = String::from_utf8_lossy(message).into_owned();
        self.tally.counters.errors += 1;
        match self.connections[at].stage {
            Stage::Upgrading | Stage::Greeting | Stage::Subscribing => {
                self.on_lost(at, || text);
            }
            Stage::Ready | Stage::Unsubscribed | Stage::Closed => {
                self.tally.counters.fault(|| text);
            }
        }
    }

    /// Sends one text message.
    pub(super) fn send_text(&mut self, at: usize, text: &str) {
        self.outgoing.clear();
        let mask = wire::mask(&mut self.seed);
        frame::push_masked(&mut self.outgoing, frame::TEXT, text.as_bytes(), mask);
        self.send(at);
    }

    /// Sends the content of `outgoing`, after earlier unsent bytes.
    pub(super) fn send(&mut self, at: usize) {
        self.connections[at].unsent.extend_from_slice(&self.outgoing);
        self.flush(at);
    }

    /// Sends bytes that the socket has not accepted before.
    pub(super) fn flush(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else { return };
        let Some(stream) = &mut connection.stream else { return };
        while !connection.unsent.is_empty() {
            match stream.write(&connection.unsent) {
                Ok(0) => return,
                Ok(count) => {
                    connection.unsent.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The next read detects the broken connection.
                Err(_) => return,
            }
        }
        if connection.unsent.capacity() != 0 {
            connection.unsent = Vec::new();
        }
    }
}
