//! Reads the head of a connection's first request into a buffer that is only as large as what has
//! arrived. The HTTP library allocates about 20 KiB for a connection, too much for clients that
//! connect and send little.

use std::{future::poll_fn, io, pin::Pin};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read from the socket at once: enough for the head and body of most requests.
const READ_CHUNK: usize = 8 * 1024;
/// Up to this many bytes, the head is parsed after every read, to detect other protocols early.
const EAGER_PARSE_BYTES: usize = 128;
/// Maximum number of header lines, which is the HTTP library's own limit. A head with more is left
/// to the library, as is anything that is not HTTP.
pub(super) const HEADERS_MAX: usize = 100;

/// Reads until a head is complete, or the bytes cannot become one, or `max` bytes have arrived.
/// `received` are bytes that were read before. Returns all bytes; they are shorter than a head if the
/// client closed the connection.
///
/// # Errors
///
/// The connection failed.
pub(super) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    received: Vec<u8>,
    max: usize,
) -> io::Result<Vec<u8>> {
    let mut head = match trim_line_ends(&received) {
        trimmed if trimmed.len() == received.len() => received,
        trimmed => trimmed.to_vec(),
    };
    if !head.is_empty() && (max <= head.len() || !is_incomplete(&head, head.len())) {
        return Ok(head);
    }
    loop {
        let len = poll_fn(|cx| {
            // Dropped while waiting for more.
            let mut chunk = [0; READ_CHUNK];
            let mut buffer = ReadBuf::new(&mut chunk);
            Pin::new(&mut *stream).poll_read(cx, &mut buffer).map_ok(|()| {
                // Empty lines before the request line are skipped.
                let filled = buffer.filled();
                let filled = if head.is_empty() { trim_line_ends(filled) } else { filled };
                head.extend_from_slice(filled);
                buffer.filled().len()
            })
        })
        .await?;
        if len == 0 || max <= head.len() || !is_incomplete(&head, len.min(head.len())) {
            return Ok(head);
        }
    }
}

fn trim_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    &bytes[start.unwrap_or(bytes.len())..]
}

/// Whether a head has more header lines than allowed.
pub(super) fn has_too_many_headers(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    httparse::Request::new(&mut headers).parse(head) == Err(httparse::Error::TooManyHeaders)
}

/// Whether these bytes begin a head that is not complete yet. The last `new` of them have just
/// arrived.
fn is_incomplete(head: &[u8], new: usize) -> bool {
    // A head can only end at the end of a line. Bytes that are not HTTP are detected at the
    // beginning.
    let before = head.len() - new;
    if EAGER_PARSE_BYTES < before && !head[before..].contains(&b'\n') {
        return true;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    matches!(httparse::Request::new(&mut headers).parse(head), Ok(httparse::Status::Partial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::task::{Context, Poll, Waker};
    use tokio::io::AsyncWriteExt;

    const HEAD: &[u8] = b"GET /up HTTP/1.1\r\nhost: x\r\n\r\n";

    /// The result for input that arrives in pieces, and whether the reader waited for more.
    async fn read(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut ours, mut theirs) = tokio::io::duplex(100_000);
        let mut first =
            Box::pin(async move { read_head(&mut ours, Vec::new(), 1_000).await.unwrap() });
        let mut context = Context::from_waker(Waker::noop());
        for piece in pieces {
            theirs.write_all(piece).await.unwrap();
            if let Poll::Ready(head) = first.as_mut().poll(&mut context) {
                return (head, false);
            }
        }
        drop(theirs);
        (first.await, true)
    }

    #[tokio::test]
    async fn a_complete_head_is_returned_with_all_received_bytes() {
        assert_eq!(read(&[HEAD]).await, (HEAD.to_vec(), false));
        let bytes: Vec<&[u8]> = HEAD.chunks(1).collect();
        assert_eq!(read(&bytes).await, (HEAD.to_vec(), false));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(500));
        let bytes: Vec<&[u8]> = long.as_bytes().chunks(7).collect();
        assert_eq!(read(&bytes).await, (long.clone().into_bytes(), false));
        let bytes: Vec<&[u8]> = long.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).await, (long.clone().into_bytes(), false));
        let with_body = [HEAD, b"body"].concat();
        assert_eq!(read(&[&with_body]).await, (with_body.clone(), false));
    }

    #[tokio::test]
    async fn an_incomplete_head_is_returned_only_at_the_end_of_the_stream() {
        assert_eq!(read(&[&HEAD[..20]]).await, (HEAD[..20].to_vec(), true));
        assert_eq!(read(&[]).await, (Vec::new(), true));
    }

    #[tokio::test]
    async fn no_more_is_waited_for_at_the_bound() {
        let [below, bound] = [999, 1_000].map(|len| {
            let start = b"GET / HTTP/1.1\r\nx: ";
            [&start[..], &vec![b'x'; len - start.len()]].concat()
        });
        assert_eq!(read(&[&below]).await, (below.clone(), true));
        assert_eq!(read(&[&bound]).await, (bound.clone(), false));
    }

    #[test]
    fn the_library_takes_a_hundred_header_lines() {
        let head = |lines: usize| ["GET / HTTP/1.1\r\n", &"a: b\r\n".repeat(lines)].concat();
        assert!(!has_too_many_headers(head(HEADERS_MAX).as_bytes()));
        assert!(has_too_many_headers(head(HEADERS_MAX + 1).as_bytes()));
        assert!(!has_too_many_headers(b"no head"));
    }

    #[tokio::test]
    async fn empty_lines_before_a_head_take_no_memory() {
        let lines = "\r\n".repeat(5_000);
        assert_eq!(read(&[lines.as_bytes(), b"\n", HEAD]).await, (HEAD.to_vec(), false));
        let bytes: Vec<&[u8]> = lines.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).await, (Vec::new(), true));
    }

    #[tokio::test]
    async fn bytes_that_were_read_before_are_part_of_the_head() {
        let (mut ours, mut theirs) = tokio::io::duplex(1_000);
        let mut read = async |received: &[u8]| {
            read_head(&mut ours, received.to_vec(), 1_000).now_or_never().map(Result::unwrap)
        };
        assert_eq!(read(HEAD).await, Some(HEAD.to_vec()));
        assert_eq!(read(&[b"\r\n", HEAD].concat()).await, Some(HEAD.to_vec()));
        assert_eq!(read(b"\x16\x03\x01").await, Some(b"\x16\x03\x01".to_vec()));
        assert_eq!(read(&HEAD[..9]).await, None);
        theirs.write_all(&HEAD[9..]).await.unwrap();
        assert_eq!(read(&HEAD[..9]).await, Some(HEAD.to_vec()));
    }

    #[tokio::test]
    async fn bytes_that_are_not_http_are_returned_at_once() {
        for bytes in [&b"\x16\x03\x01"[..], b"GET  /", b"GET / HTTP/9.9\r\n", &[b'x'; 1_000]] {
            assert_eq!(read(&[bytes]).await, (bytes.to_vec(), false), "{bytes:?}");
        }
        // As long as the first message of TLS, which has no line end, or has one by chance.
        let long = [&b"\x16\x03\x01"[..], &[b'x'; 514]].concat();
        assert_eq!(read(&[&long]).await, (long.clone(), false));
        let many = ["GET / HTTP/1.1\r\n".to_owned(), "a: b\r\n".repeat(101)].concat();
        assert_eq!(read(&[many.as_bytes()]).await, (many.clone().into_bytes(), false));
    }
}
