//! The RESP3 encoding of commands and replies.

#![expect(clippy::wildcard_enum_match_arm, reason = "RESP3 has more types than the model gives")]

use super::replies::Bytes;
use redis::{PushKind, Value, VerbatimFormat};

/// Removes one complete command from the front of the input, if there is one.
pub(crate) fn take_command(input: &mut Vec<u8>) -> Option<Vec<Bytes>> {
    let mut at = 0;
    let count = header(input, &mut at, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let len = header(input, &mut at, b'$')?;
        words.push(input.get(at..at + len)?.to_vec());
        at += len + 2;
        if input.len() < at {
            return None;
        }
    }
    input.drain(..at);
    Some(words)
}

/// Parses a line that consists of a type byte and a number.
fn header(input: &[u8], at: &mut usize, mark: u8) -> Option<usize> {
    let line = &input[*at..];
    let end = line.iter().position(|byte| *byte == b'\n')?;
    assert_eq!(line[0], mark, "commands are arrays of bulk strings");
    let digits = str::from_utf8(&line[1..end - 1]).expect("digits");
    *at += end + 1;
    Some(digits.parse().expect("a number"))
}

/// Encodes a reply or a push.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Nil => out.extend_from_slice(b"_\r\n"),
        Value::Int(number) => line(out, b':', number),
        Value::BulkString(bytes) => {
            line(out, b'$', bytes.len());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Value::Okay => out.extend_from_slice(b"+OK\r\n"),
        Value::SimpleString(text) => line(out, b'+', text),
        Value::Double(number) => line(out, b',', super::replies::general(*number, 17)),
        Value::Array(items) => aggregate(out, b'*', items.len(), items),
        Value::Set(items) => aggregate(out, b'~', items.len(), items),
        Value::Map(pairs) => {
            let items = pairs.iter().flat_map(|(field, value)| [field, value]);
            aggregate(out, b'%', pairs.len(), items);
        }
        Value::VerbatimString { format: VerbatimFormat::Text, text } => {
            line(out, b'=', text.len() + 4);
            line(out, b't', format_args!("xt:{text}"));
        }
        Value::ServerError(error) => {
            let space = if error.details().is_some() { " " } else { "" };
            line(
                out,
                b'-',
                format_args!("{}{space}{}", error.code(), error.details().unwrap_or("")),
            );
        }
        Value::Push { kind, data } => {
            line(out, b'>', data.len() + 1);
            write(&Value::BulkString(name(kind).into()), out);
            for item in data {
                write(item, out);
            }
        }
        other => panic!("the model sends no {other:?}"),
    }
}

fn line(out: &mut Vec<u8>, mark: u8, rest: impl std::fmt::Display) {
    use std::io::Write as _;
    out.push(mark);
    write!(out, "{rest}\r\n").expect("writing to memory does not fail");
}

fn aggregate<'a>(
    out: &mut Vec<u8>,
    mark: u8,
    len: usize,
    items: impl IntoIterator<Item = &'a Value>,
) {
    line(out, mark, len);
    items.into_iter().for_each(|item| write(item, out));
}

fn name(kind: &PushKind) -> &'static str {
    match kind {
        PushKind::Message => "message",
        PushKind::SMessage => "smessage",
        PushKind::Subscribe => "subscribe",
        PushKind::SSubscribe => "ssubscribe",
        PushKind::Unsubscribe => "unsubscribe",
        PushKind::SUnsubscribe => "sunsubscribe",
        other => panic!("the model pushes no {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_back_by_redis_rs() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for value in [
            Value::Nil,
            Value::Int(-7),
            Value::Okay,
            Value::SimpleString("PONG".into()),
            Value::Double(1.5),
            text("a\r\nb"),
            Value::Array(vec![text(""), Value::Nil, Value::Array(Vec::new())]),
            Value::Set(vec![text("a")]),
            Value::Map(vec![(text("a"), Value::Int(1))]),
            Value::VerbatimString { format: VerbatimFormat::Text, text: "a\r\nb".into() },
            super::super::replies::ModelError::new("MOVED 1 a:1").to_value(),
            super::super::replies::ModelError::new("BAD").to_value(),
            Value::Push { kind: PushKind::SMessage, data: vec![text("c"), text("m")] },
        ] {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            assert_eq!(redis::parse_redis_value(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn commands_are_taken_once_complete() {
        let mut command = redis::cmd("SET");
        command.arg("key").arg(b"a\r\nb");
        let whole =
            [command.get_packed_command(), redis::cmd("PING").get_packed_command()].concat();
        let mut input = Vec::new();
        let mut taken = Vec::new();
        for byte in whole {
            input.push(byte);
            taken.extend(take_command(&mut input));
        }
        let words =
            |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(taken, [words(&["SET", "key", "a\r\nb"]), words(&["PING"])]);
        assert!(input.is_empty());
    }
}
