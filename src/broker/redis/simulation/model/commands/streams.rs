//! Commands on streams.

use super::{
    super::{
        replies::{Bytes, ModelError, NOT_AN_INTEGER, Reply, SYNTAX, bulk, int, integer},
        store::{ModelStore, Stream},
    },
    Protocol, is, wrong_arity,
};
use redis::Value;

type EntryId = (u64, u64);

fn invalid_id() -> ModelError {
    ModelError::new("ERR Invalid stream ID specified as stream command argument")
}

/// An id. Without a second number, it has `second`.
fn id(word: &[u8], second: u64) -> Result<EntryId, ModelError> {
    let text = std::str::from_utf8(word).map_err(|_| invalid_id())?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten().ok_or_else(invalid_id)
    };
    match text.split_once('-') {
        Some((first, second)) => Ok((number(first)?, number(second)?)),
        None => Ok((number(text)?, second)),
    }
}

fn text((first, second): EntryId) -> Value {
    bulk(format!("{first}-{second}"))
}

pub(super) fn xadd(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (mut at, mut max) = (2, None);
    if is(&command[at], "MAXLEN") {
        at += 1;
        at += usize::from(command.get(at).is_some_and(|word| is(word, "=")));
        let count = integer(command.get(at).ok_or(SYNTAX)?)?;
        let negative = |_| ModelError::new("ERR The MAXLEN argument must be >= 0.");
        max = Some(usize::try_from(count).map_err(negative)?);
        at += 1;
    }
    let fields = command.get(at + 1..).unwrap_or_default();
    if fields.len() < 2 || !fields.len().is_multiple_of(2) {
        return Err(wrong_arity(command));
    }
    let id = id(&command[at], 0)?;
    if id == (0, 0) {
        return Err(ModelError::new("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let last = store.read::<Stream>(&command[1])?.map_or((0, 0), |stream| stream.last);
    if id <= last {
        return Err(ModelError::new(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ));
    }
    store.upsert(&command[1], |stream: &mut Stream| {
        stream.entries.insert(id, fields.to_vec());
        stream.last = id;
        while max.is_some_and(|max| max < stream.entries.len()) {
            stream.entries.pop_first();
        }
    })?;
    Ok(text(id))
}

/// Only with `MINID`.
pub(super) fn xtrim(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    if !is(&command[2], "MINID") {
        return Err(SYNTAX);
    }
    let first = id(&command[3], 0)?;
    let trimmed = store.change(&command[1], |stream: &mut Stream| {
        let kept = stream.entries.split_off(&first);
        std::mem::replace(&mut stream.entries, kept).len()
    })?;
    Ok(int(trimmed.unwrap_or(0)))
}

pub(super) fn xlen(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.read::<Stream>(&command[1])?.map_or(0, |stream| stream.entries.len())))
}

pub(super) fn xrange(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    range(store, command, false)
}

pub(super) fn xrevrange(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    range(store, command, true)
}

fn range(store: &mut ModelStore, command: &[Bytes], is_reversed: bool) -> Reply {
    let (from, to) = if is_reversed { (3, 2) } else { (2, 3) };
    let bound = |word: &Bytes, second| match word.as_slice() {
        b"-" => Ok((0, 0)),
        b"+" => Ok((u64::MAX, u64::MAX)),
        word => id(word, second),
    };
    let (from, to) = (bound(&command[from], 0)?, bound(&command[to], u64::MAX)?);
    let count = match &command[4..] {
        [] => usize::MAX,
        [option, count] if is(option, "COUNT") => {
            usize::try_from(integer(count)?.max(0)).map_err(|_| NOT_AN_INTEGER)?
        }
        _ => return Err(SYNTAX),
    };
    let stream = store.read::<Stream>(&command[1])?;
    if stream.is_some() && count == 0 {
        return Ok(Value::Nil);
    }
    let entry = |(id, fields): (&EntryId, &Vec<Bytes>)| {
        let fields = fields.iter().map(|field| bulk(field.clone())).collect();
        Value::Array(vec![text(*id), Value::Array(fields)])
    };
    let entries = stream.filter(|_| from <= to).map(|stream| stream.entries.range(from..=to));
    let entries = entries.into_iter().flatten();
    let entries: Vec<Value> = if is_reversed {
        entries.rev().take(count).map(entry).collect()
    } else {
        entries.take(count).map(entry).collect()
    };
    Ok(Value::Array(entries))
}
