//! Reads a request's body up to a limit.

use super::response::ApiError;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{StatusCode, body::Body};
use std::time::Duration;
use tokio::time;

/// Reads the whole body.
///
/// # Errors
///
/// 413 if the body or its `Content-Length` is larger than `max` bytes; 408 if it takes longer than
/// `timeout`; 400 if the connection ends within it.
pub(super) async fn read<B>(body: B, max: usize, timeout: Duration) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().lower();
    if (max as u64) < declared {
        return Err(too_large(max));
    }
    time::timeout(timeout, collect(body, max)).await.unwrap_or_else(|_elapsed| {
        Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("The request's body did not arrive within {} s", timeout.as_secs()),
        ))
    })
}

/// Copies the pieces as they arrive, unless there is only one: each piece references the buffer of
/// several kilobytes that it was read into, and a client may send single bytes.
async fn collect<B>(mut body: B, max: usize) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::bad_request("The connection closed before the end of the body")
        })?;
        // Frames without data are trailers, which are ignored.
        let Ok(piece) = frame.into_data() else { continue };
        if max - collected.len() < piece.len() {
            return Err(too_large(max));
        }
        if collected.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.into())
}

fn too_large(max: usize) -> ApiError {
    ApiError::too_large(format!(
        "The request's body is larger than the allowed maximum ({max} bytes, \
         server.max_request_bytes)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::{Frame, SizeHint};
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    /// A body that arrives in pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
        }
    }

    /// A body of which nothing arrives.
    struct Stalled;

    impl Body for Stalled {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_size_and_its_time() {
        let timeout = Duration::from_secs(7);
        let (mut fits, _buffers) = pieces_of(100);
        assert_eq!(read(&mut fits, 100, timeout).await.unwrap().len(), 100);
        let (mut larger, _buffers) = pieces_of(101);
        let error = read(&mut larger, 100, timeout).await.unwrap_err();
        assert_eq!(error.into_response().status(), 413);
        assert_eq!(larger.0.len(), 101, "nothing of it is read");
        let started = time::Instant::now();
        let error = read(Stalled, 100, timeout).await.unwrap_err();
        assert_eq!(started.elapsed(), timeout);
        assert!(format!("{error:?}").contains("did not arrive within 7 s"), "{error:?}");
        assert_eq!(error.into_response().status(), 408);
    }

    /// Single bytes, each in a buffer of its own; and those buffers.
    fn pieces_of(count: usize) -> (Pieces, Vec<Bytes>) {
        let buffers: Vec<Bytes> = (0..count).map(|_| Bytes::from(vec![b'x'; 8_192])).collect();
        (Pieces(buffers.iter().map(|buffer| buffer.slice(..1)).collect()), buffers)
    }

    #[tokio::test]
    async fn pieces_do_not_keep_their_buffers_alive() {
        let (body, buffers) = pieces_of(100);
        let read = collect(body, 100).await.unwrap();
        assert_eq!(read, vec![b'x'; 100]);
        assert!(buffers.iter().all(Bytes::is_unique), "a buffer is still in use");
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let (body, buffers) = pieces_of(1);
        let read = collect(body, 1).await.unwrap();
        assert_eq!(read.as_ptr(), buffers[0].as_ptr());
    }

    #[tokio::test]
    async fn the_limit_applies_to_the_sum_of_all_pieces() {
        assert!(collect(pieces_of(100).0, 100).await.is_ok());
        assert!(format!("{:?}", collect(pieces_of(101).0, 100).await).contains("413"));
        let (body, _) = pieces_of(0);
        assert!(collect(body, 0).await.unwrap().is_empty());
    }
}
