//! Compares two replies, ignoring random choices and the time between the two.

use redis::Value;

use super::Words;

/// Larger numbers may be times or durations.
const TIMES: i64 = 1_000;
/// The largest difference between two times, in ms and in µs.
const APART_MS: u64 = 2_000;
const APART_US: u64 = 1_000 * APART_MS;
/// Larger numbers are µs since 1970.
const MICROS: i64 = 100_000_000_000_000;

/// Commands whose replies have no defined order.
const UNORDERED: [&str; 10] = [
    "HGETALL",
    "HKEYS",
    "HVALS",
    "SMEMBERS",
    "SRANDMEMBER",
    "SPOP",
    "SSCAN",
    "HSCAN",
    "SCAN",
    "KEYS",
];

pub(super) fn check(words: &Words, real: &Value, model: &Value) -> Result<(), String> {
    let is = |name: &&str| words.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    if words[0] == b"TIME" {
        return times(real, model);
    }
    let is_script = words[0].to_ascii_uppercase().starts_with(b"EVAL");
    compare(real, model, UNORDERED.iter().any(is), is_script, 0)
}

/// Compares two replies to `TIME`.
fn times(real: &Value, model: &Value) -> Result<(), String> {
    let micros = |time: &Value| {
        let (seconds, micros): (u64, u64) = redis::from_redis_value_ref(time).ok()?;
        Some(seconds * 1_000_000 + micros)
    };
    let is_near = micros(real)
        .zip(micros(model))
        .is_some_and(|(real, model)| real.abs_diff(model) <= APART_US);
    if is_near { Ok(()) } else { Err(format!("{real:?} differs from {model:?}")) }
}

fn compare(
    real: &Value,
    model: &Value,
    is_unordered: bool,
    is_script: bool,
    depth: u32,
) -> Result<(), String> {
    let differ = || Err(format!("{real:?} differs from {model:?}"));
    match (real, model) {
        (Value::Array(real), Value::Array(model)) | (Value::Set(real), Value::Set(model)) => {
            // The elements of a script's reply are ordered; nested lists may be those of a hash.
            let sorts = is_unordered || (is_script && 0 < depth);
            let (real, model) = (order(real, sorts), order(model, sorts));
            if real.len() != model.len() {
                return Err(format!("{real:?} and {model:?} differ in length"));
            }
            real.iter().zip(&model).try_for_each(|(real, model)| {
                compare(real, model, is_unordered, is_script, depth + 1)
            })
        }
        (Value::Map(real), Value::Map(model)) => {
            let flat = |map: &[(Value, Value)]| {
                let pairs = map
                    .iter()
                    .map(|(field, value)| Value::Array(vec![field.clone(), value.clone()]));
                Value::Array(order(&pairs.collect::<Vec<_>>(), true))
            };
            compare(&flat(real), &flat(model), false, is_script, 1)
        }
        (Value::Int(real), Value::Int(model)) if are_near(*real, *model) => Ok(()),
        (Value::BulkString(real), Value::BulkString(model)) => {
            if are_texts_near(real, model) {
                Ok(())
            } else {
                differ()
            }
        }
        (Value::ServerError(real), Value::ServerError(model)) => {
            if real == model {
                Ok(())
            } else {
                differ()
            }
        }
        (real, model) if real == model => Ok(()),
        _ => differ(),
    }
}

fn order(values: &[Value], sorts: bool) -> Vec<Value> {
    let mut values = values.to_vec();
    if sorts {
        values.sort_by_key(|value| format!("{value:?}"));
    }
    values
}

fn are_near(real: i64, model: i64) -> bool {
    let apart = if real < MICROS { APART_MS } else { APART_US };
    real == model || (TIMES < real && TIMES < model && real.abs_diff(model) <= apart)
}

/// Compares two texts, ignoring differences between times.
fn are_texts_near(real: &[u8], model: &[u8]) -> bool {
    if real == model {
        return true;
    }
    let (real, model) = (parts(real), parts(model));
    real.len() == model.len()
        && real.iter().zip(&model).all(|(real, model)| {
            let number = |part: &[u8]| str::from_utf8(part).ok().and_then(|text| text.parse().ok());
            let are_near = |(real, model)| are_near(real, model);
            real == model || number(real).zip(number(model)).is_some_and(are_near)
        })
}

/// Splits a text into runs of digits and the text between them.
fn parts(text: &[u8]) -> Vec<&[u8]> {
    text.chunk_by(|one, other| one.is_ascii_digit() == other.is_ascii_digit()).collect()
}

#[test]
fn a_difference_is_detected() {
    let words = vec![b"GET".to_vec(), b"k".to_vec()];
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let int = Value::Int;
    for (real, model, is_same) in [
        (text("a"), text("a"), true),
        (text("a"), text("b"), false),
        (text("1700000000000 a"), text("1700000000010 a"), true),
        (text("1700000000000 a"), text("1700000900010 a"), false),
        (text("7 a"), text("8 a"), false),
        (int(7), int(8), false),
        (int(60_000), int(59_990), true),
        (int(60_000), int(50_000), false),
        (int(1), Value::Nil, false),
        (Value::Array(vec![int(1), int(2)]), Value::Array(vec![int(2), int(1)]), false),
        (Value::Array(vec![int(1)]), Value::Array(vec![int(1), int(1)]), false),
    ] {
        assert_eq!(check(&words, &real, &model).is_ok(), is_same, "{real:?} {model:?}");
    }
}
