//! Parses the values that Redis sends (RESP3), as their bytes arrive.
//!
//! The parser of the Redis library takes a thousand instructions for each value, and a publish has a dozen. This one parses what replies and
//! pub/sub messages consist of, and leaves the other kinds of scalars, such as errors, to the library.

use redis::{PushKind, RedisError, RedisResult, Value, parse_redis_value};
use std::io;

/// A parser of one stream. Values are parsed once, although their bytes may arrive in any parts.
#[derive(Debug, Default)]
pub(super) struct RespParser {
    input: Vec<u8>,
    /// The number of bytes of the input that are parsed.
    parsed: usize,
    /// The aggregates that are not complete, each within the one before.
    open: Vec<OpenAggregate>,
}

#[derive(Debug)]
struct OpenAggregate {
    kind: AggregateKind,
    values: Vec<Value>,
    /// The number of values that are missing.
    missing: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AggregateKind {
    Array,
    Map,
    Set,
    Push,
}

/// What the next bytes are.
enum Parsed {
    Value(Value),
    Aggregate(OpenAggregate),
    /// They have not arrived completely.
    Incomplete,
}

/// Maximum bytes of a line: of a scalar that is no text with a length.
const LINE_MAX: usize = 64 * 1024;
/// Maximum depth of aggregates.
const DEPTH_MAX: usize = 100;
/// Values for which an aggregate has room before they arrive.
const VALUES_ROOM_MAX: usize = 1_024;
/// The input keeps this capacity at most while it is empty, in bytes.
const CAPACITY_KEPT: usize = 64 * 1024;
/// The room for bytes that are read at once.
const READ_ROOM: usize = 16 * 1024;

impl RespParser {
    /// The buffer to which the bytes of the stream are added.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.input.drain(..self.parsed);
        self.parsed = 0;
        if self.input.is_empty() {
            self.input.shrink_to(CAPACITY_KEPT);
        }
        self.input.reserve(READ_ROOM);
        &mut self.input
    }

    /// The next value; `None` until more bytes have arrived.
    ///
    /// # Errors
    ///
    /// The bytes are not RESP3.
    pub(super) fn next_value(&mut self) -> RedisResult<Option<Value>> {
        loop {
            let mut value = match self.parse()? {
                Parsed::Incomplete => return Ok(None),
                Parsed::Aggregate(aggregate) if 0 < aggregate.missing => {
                    if DEPTH_MAX <= self.open.len() {
                        return Err(invalid());
                    }
                    self.open.push(aggregate);
                    continue;
                }
                Parsed::Aggregate(aggregate) => aggregate.complete()?,
                Parsed::Value(value) => value,
            };
            loop {
                let Some(aggregate) = self.open.last_mut() else { return Ok(Some(value)) };
                aggregate.values.push(value);
                aggregate.missing -= 1;
                if 0 < aggregate.missing {
                    break;
                }
                let Some(aggregate) = self.open.pop() else { break };
                value = aggregate.complete()?;
            }
        }
    }

    /// Parses a scalar, or the beginning of an aggregate.
    fn parse(&mut self) -> RedisResult<Parsed> {
        let rest = &self.input[self.parsed..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return if rest.len() <= LINE_MAX { Ok(Parsed::Incomplete) } else { Err(invalid()) };
        };
        let [kind, line @ .., b'\r', b'\n'] = &rest[..=end] else { return Err(invalid()) };
        let is_nil = line == b"-1";
        let (parsed, len) = match kind {
            b':' => (Parsed::Value(Value::Int(integer(line)?)), end + 1),
            b'_' if line.is_empty() => (Parsed::Value(Value::Nil), end + 1),
            b'$' | b'*' if is_nil => (Parsed::Value(Value::Nil), end + 1),
            b'$' | b'!' | b'=' => {
                let len = count(line)?.checked_add(end + 3).ok_or_else(invalid)?;
                let Some(all) = rest.get(..len) else {
                    let more = len - rest.len();
                    self.input.reserve(more.min(READ_ROOM * 64));
                    return Ok(Parsed::Incomplete);
                };
                if !all.ends_with(b"\r\n") {
                    return Err(invalid());
                }
                let value = match kind {
                    b'$' => Value::BulkString(all[end + 1..len - 2].to_vec()),
                    _ => parse_redis_value(all)?,
                };
                (Parsed::Value(value), len)
            }
            b'*' => (OpenAggregate::begin(AggregateKind::Array, count(line)?)?, end + 1),
            b'%' => (OpenAggregate::begin(AggregateKind::Map, count(line)?)?, end + 1),
            b'~' => (OpenAggregate::begin(AggregateKind::Set, count(line)?)?, end + 1),
            b'>' => (OpenAggregate::begin(AggregateKind::Push, count(line)?)?, end + 1),
            b'+' | b'-' | b'#' | b',' | b'(' => {
                (Parsed::Value(parse_redis_value(&rest[..=end])?), end + 1)
            }
            _ => return Err(invalid()),
        };
        self.parsed += len;
        Ok(parsed)
    }
}

impl OpenAggregate {
    fn begin(kind: AggregateKind, count: usize) -> RedisResult<Parsed> {
        let values = if kind == AggregateKind::Map { 2 } else { 1 };
        let missing = count.checked_mul(values).ok_or_else(invalid)?;
        let values = Vec::with_capacity(missing.min(VALUES_ROOM_MAX));
        Ok(Parsed::Aggregate(Self { kind, values, missing }))
    }

    fn complete(self) -> RedisResult<Value> {
        let values = self.values;
        Ok(match self.kind {
            AggregateKind::Array => Value::Array(values),
            AggregateKind::Set => Value::Set(values),
            AggregateKind::Map => {
                let mut pairs = Vec::with_capacity(values.len() / 2);
                let mut values = values.into_iter();
                while let (Some(key), Some(value)) = (values.next(), values.next()) {
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
            AggregateKind::Push => {
                let mut values = values.into_iter();
                let kind = match values.next() {
                    Some(Value::BulkString(kind)) => push_kind(&kind),
                    Some(Value::SimpleString(kind)) => push_kind(kind.as_bytes()),
                    _ => return Err(invalid()),
                };
                Value::Push { kind, data: values.collect() }
            }
        })
    }
}

fn push_kind(kind: &[u8]) -> PushKind {
    match kind {
        b"message" => PushKind::Message,
        b"smessage" => PushKind::SMessage,
        b"subscribe" => PushKind::Subscribe,
        b"ssubscribe" => PushKind::SSubscribe,
        b"unsubscribe" => PushKind::Unsubscribe,
        b"sunsubscribe" => PushKind::SUnsubscribe,
        // No other push was requested.
        other => PushKind::Other(String::from_utf8_lossy(other).into_owned()),
    }
}

fn integer(line: &[u8]) -> RedisResult<i64> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or_else(invalid)
}

/// The number of bytes or values that follow.
fn count(line: &[u8]) -> RedisResult<usize> {
    usize::try_from(integer(line)?).map_err(|_| invalid())
}

fn invalid() -> RedisError {
    io::Error::new(io::ErrorKind::InvalidData, "invalid reply from redis").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::simulation::write_value;
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    fn bytes_of(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_value(value, &mut bytes);
        bytes
    }

    fn text(rng: &mut StdRng) -> Vec<u8> {
        let len = [0, 1, 7, 300, 70_000][rng.random_range(0..5)];
        (0..len).map(|_| rng.random()).collect()
    }

    fn value(rng: &mut StdRng, depth: usize) -> Value {
        let kinds = if depth < 4 { 11 } else { 7 };
        let values = |rng: &mut StdRng| -> Vec<Value> {
            (0..rng.random_range(0..5)).map(|_| value(rng, depth + 1)).collect()
        };
        match rng.random_range(0..kinds) {
            0 => Value::Nil,
            1 => Value::Int(rng.random()),
            2 | 3 => Value::BulkString(text(rng)),
            4 => Value::SimpleString("a text".into()),
            5 => Value::Okay,
            6 => parse_redis_value(b"-ERR what went wrong\r\n").expect("an error is a value"),
            7 | 8 => Value::Array(values(rng)),
            9 => Value::Set(values(rng)),
            _ => Value::Map(values(rng).into_iter().map(|key| (key, Value::Int(1))).collect()),
        }
    }

    #[test]
    fn values_are_parsed_as_by_the_library_in_any_parts() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..2_000 {
            let values: Vec<Value> = (0..3).map(|_| value(&mut rng, 0)).collect();
            let bytes: Vec<Vec<u8>> = values.iter().map(bytes_of).collect();
            for (value, bytes) in values.iter().zip(&bytes) {
                assert_eq!(parse_redis_value(bytes).unwrap(), *value);
            }
            let (mut parser, mut parsed) = (RespParser::default(), Vec::new());
            let bytes = bytes.concat();
            let mut rest = &*bytes;
            while !rest.is_empty() {
                let most = [2, 40, 100_000][rng.random_range(0..3)];
                let (part, behind) = rest.split_at(rng.random_range(1..=most.min(rest.len())));
                parser.buffer().extend_from_slice(part);
                rest = behind;
                while let Some(value) = parser.next_value().unwrap() {
                    parsed.push(value);
                }
            }
            assert_eq!(parsed, values);
        }
    }

    fn parse(bytes: &[u8]) -> RedisResult<Option<Value>> {
        let mut parser = RespParser::default();
        parser.buffer().extend_from_slice(bytes);
        parser.next_value()
    }

    #[test]
    fn pushes_have_their_kinds() {
        let push = |kind: &str| {
            let bytes = format!(">2\r\n${}\r\n{kind}\r\n$1\r\na\r\n", kind.len());
            let parsed = parse(bytes.as_bytes()).unwrap();
            assert_eq!(parsed, Some(parse_redis_value(bytes.as_bytes()).unwrap()), "{kind}");
        };
        let kinds = ["message", "smessage", "subscribe", "ssubscribe", "unsubscribe"];
        kinds.into_iter().chain(["sunsubscribe", "another"]).for_each(push);
        assert!(parse(b">1\r\n:1\r\n").is_err() && parse(b">0\r\n").is_err());
    }

    #[test]
    fn the_other_kinds_are_those_of_the_library() {
        for bytes in [
            b"#t\r\n".as_slice(),
            b",1.5\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"!9\r\nERR a bad\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"_\r\n",
            b"*0\r\n",
        ] {
            assert_eq!(parse(bytes).unwrap(), Some(parse_redis_value(bytes).unwrap()), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_resp3_is_an_error() {
        for bytes in [
            b"x\r\n".as_slice(),
            b"\r\n",
            b":1\n",
            b":x\r\n",
            b"$-2\r\n",
            b"$1\r\nabc",
            b"*-2\r\n",
            b"$?\r\n",
            b"|1\r\n+a\r\n+b\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(&b"*1\r\n".repeat(DEPTH_MAX)).unwrap().is_none());
        assert!(parse(&b"*1\r\n".repeat(DEPTH_MAX + 1)).is_err());
        assert!(parse(&vec![b'+'; LINE_MAX]).unwrap().is_none());
        assert!(parse(&vec![b'+'; LINE_MAX + 1]).is_err());
    }
}
