//! `campanile publish`: one event through the HTTP API.

use super::{
    EXIT_USAGE, fail,
    target::{AppTarget, ServerArgs},
};
use crate::http_client::ClientResponse;
use clap::Args;
use hyper::Method;
use serde_json::json;
use std::{
    io::{self, Read},
    process::ExitCode,
};

#[derive(Args, Debug)]
pub(super) struct PublishArgs {
    /// The channel
    channel: String,
    /// The event's name
    event: String,
    /// The event's data, usually JSON; - reads it from standard input
    #[arg(default_value = "{}")]
    data: String,
    /// Within two minutes, deliver nothing twice if the command is repeated with this key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Largest data read from standard input, in bytes: far more than a server accepts.
const STDIN_MAX: u64 = 16 << 20;

pub(super) fn publish(args: &PublishArgs) -> ExitCode {
    let data = match args.data.as_str() {
        "-" => match read_data(io::stdin().lock()) {
            Ok(data) => data,
            Err(message) => return fail(EXIT_USAGE, message),
        },
        data => data.to_owned(),
    };
    args.server.send_and_print(async |target| post(target, args, &data).await)
}

/// Reads the data of an event, without the trailing line break that most programs print.
fn read_data(input: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = input.take(STDIN_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read standard input: {error}"))?;
    if STDIN_MAX < bytes.len() as u64 {
        return Err(format!("standard input has more than {STDIN_MAX} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "standard input is not UTF-8")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

async fn post(
    target: &AppTarget,
    args: &PublishArgs,
    data: &str,
) -> Result<ClientResponse, String> {
    let mut body = json!({"name": args.event, "channel": args.channel, "data": data});
    if let Some(key) = &args.idempotency_key {
        body["idempotency_key"] = json!(key);
    }
    let body = body.to_string();
    target.call(Method::POST, "events", &[], body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_from_standard_input_is_bounded_text_without_its_last_line_break() {
        for (input, data) in [("", ""), ("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n")]
        {
            assert_eq!(read_data(input.as_bytes()).as_deref(), Ok(data));
        }
        assert!(read_data(&[0xff][..]).unwrap_err().contains("UTF-8"));
        assert!(read_data(io::repeat(b'x')).unwrap_err().contains("more than 16777216 bytes"));
    }
}
