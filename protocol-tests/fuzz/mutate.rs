//! Derives hostile inputs from valid ones: changes bytes, inserts words, joins inputs, and replaces a value if the
//! input is JSON.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

/// The maximum length of an input, in bytes.
const LEN_MAX: usize = 40_000;

/// Words with a meaning in one of the parsers.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\r\n",
    "\0",
    "#",
    "$",
    "${A}",
    "=",
    "%00",
    "%",
    "\u{feff}",
    "é",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\"event\":",
    "\"data\":",
    "\"channel\":",
    "pusher:subscribe",
    "client-",
    "private-",
    "presence-",
    "cache-",
    "#server-to-user-",
    "user_id",
    "user_info",
    "watchlist",
    "null",
    "true",
    "1e999",
    "-0",
    "18446744073709551616",
    "HTTP/1.1",
    "content-length: ",
    "transfer-encoding: chunked\r\n",
    "auth_key=",
    "auth_signature=",
    "&info=",
    "[[apps]]",
    "[server]\n",
    "secret = ",
    "apps",
    "CAMPANILE_",
    "REVERB_",
    "__",
];

/// Mutates one of the `seeds` several times.
pub(crate) fn mutated(random: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let seed = seeds.choose(random).expect("a corpus is not empty");
    let mut bytes = json(random, seed).unwrap_or_else(|| seed.clone());
    for _ in 0..random.random_range(0..6) {
        mutate(random, &mut bytes, seeds);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn mutate(random: &mut StdRng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let place = random.random_range(0..=bytes.len());
    let end = random.random_range(place..=bytes.len().min(place + 50));
    match random.random_range(0..9) {
        0 if place < bytes.len() => bytes[place] = random.random(),
        1 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
        2 => bytes.insert(place, random.random()),
        3 => drop(bytes.drain(place..end)),
        4 => {
            let word = WORDS.choose(random).expect("there are some");
            bytes.splice(place..end, word.bytes());
        }
        5 => {
            let word = WORDS.choose(random).expect("there are some");
            bytes.splice(place..place, word.bytes());
        }
        6 => {
            let piece = bytes[place..end].to_vec();
            let times = [1, 2, 10, 300].choose(random).expect("there are some");
            bytes.splice(place..place, piece.repeat(*times));
        }
        7 => bytes.truncate(place),
        _ => {
            let other = seeds.choose(random).expect("a corpus is not empty");
            let from = random.random_range(0..=other.len());
            bytes.truncate(place);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Half of the time, the seed with one value replaced, if it is JSON.
fn json(random: &mut StdRng, seed: &[u8]) -> Option<Vec<u8>> {
    if random.random_bool(0.5) {
        return None;
    }
    // Some inputs begin with a letter before the JSON.
    let start = seed.iter().position(|byte| b"{[\"".contains(byte))?;
    let mut value: Value = serde_json::from_slice(&seed[start..]).ok()?;
    replace(random, &mut value);
    Some([&seed[..start], value.to_string().as_bytes()].concat())
}

/// Selects a value at random depth, and replaces it.
fn replace(random: &mut StdRng, value: &mut Value) {
    let goes_on = random.random_bool(0.7);
    match value {
        Value::Array(items) if goes_on && !items.is_empty() => {
            let place = random.random_range(0..items.len());
            replace(random, &mut items[place]);
        }
        Value::Object(members) if goes_on && !members.is_empty() => {
            let place = random.random_range(0..members.len());
            if let Some(member) = members.values_mut().nth(place) {
                replace(random, member);
            }
        }
        Value::String(text) if goes_on && text.starts_with(['{', '[']) => {
            if let Ok(mut inner) = serde_json::from_str(text) {
                replace(random, &mut inner);
                *text = inner.to_string();
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => *value = strange(random),
    }
}

fn strange(random: &mut StdRng) -> Value {
    let long = random.random_range(0..3_000);
    match random.random_range(0..9) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::from(random.random::<i64>()),
        3 => Value::from(random.random::<f64>() * 1e300),
        4 => Value::from("x".repeat(long)),
        5 => Value::from("\0\u{1f}\"\\é\u{1f600}".repeat(long / 10)),
        6 => {
            (0..random.random_range(1..100)).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
        }
        7 => (0..long / 10).map(|at| (format!("k{at}"), Value::from(at))).collect(),
        _ => Value::Array(vec![Value::from(""); long / 10]),
    }
}
