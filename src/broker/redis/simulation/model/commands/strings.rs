//! Commands on strings.

#![expect(clippy::unnecessary_wraps, reason = "all commands have one signature")]

use super::{
    super::{
        replies::{
            Bytes, ModelError, OVERFLOW, Reply, SYNTAX, bulk, bulk_or_nil, flag, int, integer,
        },
        store::{Data, ModelStore},
    },
    Protocol, is, range, wrong_arity,
};
use redis::Value;

pub(super) fn get(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(bulk_or_nil(store.read(&command[1])?))
}

pub(super) fn mget(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    // A value that is not a string counts as missing.
    let get = |key: &Bytes| bulk_or_nil(store.read(key).unwrap_or(None));
    Ok(Value::Array(command[1..].iter().map(get).collect()))
}

pub(super) fn set(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (key, value) = (&command[1], &command[2]);
    let (mut only_new, mut only_old, mut keeps, mut gets, mut expires) =
        (false, false, false, false, None);
    let mut words = command[3..].iter();
    while let Some(word) = words.next() {
        if is(word, "NX") && !only_old {
            only_new = true;
        } else if is(word, "XX") && !only_new {
            only_old = true;
        } else if is(word, "GET") {
            gets = true;
        } else if is(word, "KEEPTTL") && expires.is_none() {
            keeps = true;
        } else if (is(word, "PX") || is(word, "EX") || is(word, "PXAT"))
            && expires.is_none()
            && !keeps
        {
            let number = integer(words.next().ok_or(SYNTAX)?)?;
            expires = Some(expiry(store, number, word)?);
        } else {
            return Err(SYNTAX);
        }
    }
    let before = if gets { bulk_or_nil(store.read(key)?) } else { Value::Okay };
    let old = store.entry(key);
    let kept = if keeps { old.and_then(|entry| entry.expires_ms) } else { None };
    let exists = old.is_some();
    if (only_new && exists) || (only_old && !exists) {
        return Ok(if gets { before } else { Value::Nil });
    }
    store.put(key, Data::Text(value.clone()), expires.or(kept));
    Ok(before)
}

fn expiry(store: &ModelStore, number: i64, unit: &[u8]) -> Result<u64, ModelError> {
    let invalid = ModelError::new("ERR invalid expire time in 'set' command");
    let number = u64::try_from(number).ok().filter(|number| 0 < *number).ok_or(invalid)?;
    Ok(if is(unit, "PX") {
        store.now_ms() + number
    } else if is(unit, "EX") {
        store.now_ms() + 1_000 * number
    } else {
        number
    })
}

pub(super) fn mset(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    if command.len().is_multiple_of(2) {
        return Err(wrong_arity(command));
    }
    for pair in command[1..].chunks_exact(2) {
        store.put(&pair[0], Data::Text(pair[1].clone()), None);
    }
    Ok(Value::Okay)
}

pub(super) fn setnx(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let is_new = store.entry(&command[1]).is_none();
    if is_new {
        store.put(&command[1], Data::Text(command[2].clone()), None);
    }
    Ok(flag(is_new))
}

pub(super) fn getdel(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let value = bulk_or_nil(store.read(&command[1])?);
    store.remove(&command[1]);
    Ok(value)
}

pub(super) fn getrange(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (start, end) = (integer(&command[2])?, integer(&command[3])?);
    let Some(text) = store.read::<Bytes>(&command[1])? else { return Ok(bulk("")) };
    if start < 0 && end < 0 && end < start {
        return Ok(bulk(""));
    }
    // An end before the first byte is set to the first byte.
    let len = i64::try_from(text.len()).expect("it fits");
    let end = if end < 0 { (len.saturating_add(end)).max(0) } else { end };
    Ok(bulk(&text[range(start, end, text.len())]))
}

pub(super) fn strlen(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.read::<Bytes>(&command[1])?.map_or(0, Vec::len)))
}

pub(super) fn append(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let len = store.upsert(&command[1], |text: &mut Bytes| {
        text.extend_from_slice(&command[2]);
        text.len()
    })?;
    Ok(int(len))
}

fn add(store: &mut ModelStore, key: &Bytes, more: i64) -> Reply {
    let number = store.read::<Bytes>(key)?.map_or(Ok(0), |text| integer(text))?;
    let sum = number.checked_add(more).ok_or(OVERFLOW)?;
    store.upsert(key, |text: &mut Bytes| *text = sum.to_string().into_bytes())?;
    Ok(Value::Int(sum))
}

pub(super) fn incr(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    add(store, &command[1], 1)
}

pub(super) fn decr(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    add(store, &command[1], -1)
}

pub(super) fn incrby(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let more = integer(&command[2])?;
    add(store, &command[1], more)
}

pub(super) fn decrby(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let less = integer(&command[2])?;
    let more = less.checked_neg().ok_or(ModelError::new("ERR decrement would overflow"))?;
    add(store, &command[1], more)
}
