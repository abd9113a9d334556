//! The node's end of a wire, as a byte stream.

use super::{Network, wire::Up};
use crate::broker::redis::simulation::model::server::ConnectionId;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The size of the send buffer of the operating system: bytes that are written and have not
/// arrived.
const SEND_BUFFER: usize = 1024 * 1024;

/// A connection to a server. Dropping it closes it; written bytes still arrive.
#[derive(Debug)]
pub(crate) struct SimStream {
    network: Network,
    id: ConnectionId,
}

impl SimStream {
    pub(super) fn new(network: Network, id: ConnectionId) -> Self {
        Self { network, id }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.network.lock();
        let reset = || Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        let Some(wire) = state.wires.get_mut(&self.id) else { return reset() };
        if !wire.arrived.is_empty() {
            let len = buf.remaining().min(wire.arrived.len());
            let (first, _) = wire.arrived.as_slices();
            let len = len.min(first.len());
            buf.put_slice(&first[..len]);
            wire.arrived.drain(..len);
            return Poll::Ready(Ok(()));
        }
        if wire.is_closed {
            return reset();
        }
        wire.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.network.change(|state| {
            let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            let Some(wire) = state.wires.get_mut(&self.id).filter(|wire| !wire.is_closed) else {
                return broken();
            };
            if SEND_BUFFER < wire.up.bytes() {
                wire.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.send_up(self.id, Up::Bytes(buf.to_vec()));
            Poll::Ready(Ok(buf.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.change(|state| {
            let Some(wire) = state.wires.get_mut(&self.id) else { return };
            // After a cut, the end of the connection is in transit already.
            let was_cut = wire.is_cut;
            wire.close();
            if !was_cut {
                state.send_up(self.id, Up::End);
            }
        });
    }
}
