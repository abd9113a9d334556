//! A request's body, bounded before it is read.

use super::reply::ApiError;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    StatusCode,
    body::{Body, Incoming},
};
use std::time::Duration;
use tokio::time;

/// Reads the whole body.
///
/// # Errors
///
/// 413 when it is, or says it is, larger than `max` bytes; 408 when it takes longer than
/// `timeout`; 400 when it breaks off.
pub(super) async fn read(body: Incoming, max: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    let declared = body.size_hint().lower();
    if (max as u64) < declared {
        return Err(too_large(max));
    }
    match time::timeout(timeout, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(max)),
        Ok(Err(_broken)) => Err(ApiError::bad_request("The request's body broke off")),
        Err(_elapsed) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("The request's body did not arrive within {} s", timeout.as_secs()),
        )),
    }
}

fn too_large(max: usize) -> ApiError {
    ApiError::too_large(format!(
        "The request's body is larger than the allowed maximum ({max} bytes, \
         server.max_request_bytes)"
    ))
}
