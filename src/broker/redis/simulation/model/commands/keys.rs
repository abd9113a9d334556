//! Commands on keys of any type and on the whole server.

#![expect(clippy::unnecessary_wraps, reason = "all commands have one signature")]

use super::{
    super::{
        replies::{Bytes, ModelError, Reply, SYNTAX, bulk, flag, int, integer},
        store::ModelStore,
    },
    Protocol, bulks, is, scan, wrong_arity,
};
use redis::Value;

pub(super) fn del(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(command[1..].iter().filter(|key| store.remove(key).is_some()).count()))
}

pub(super) fn exists(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(command[1..].iter().filter(|key| store.entry(key).is_some()).count()))
}

pub(super) fn type_name(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let name = store.entry(&command[1]).map_or("none", |entry| entry.data.type_name());
    Ok(Value::SimpleString(name.to_owned()))
}

/// When a key expires, in ms since 1970; -1 if never, -2 if there is no such key.
fn expires(store: &mut ModelStore, key: &[u8]) -> i64 {
    let time = |ms: u64| i64::try_from(ms).expect("the time fits");
    store.entry(key).map_or(-2, |entry| entry.expires_ms.map_or(-1, time))
}

fn left(store: &mut ModelStore, key: &[u8]) -> i64 {
    let now = i64::try_from(store.now_ms()).expect("the time fits");
    let expires = expires(store, key);
    if expires < 0 { expires } else { expires - now }
}

pub(super) fn pttl(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(Value::Int(left(store, &command[1])))
}

pub(super) fn ttl(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let left = left(store, &command[1]);
    Ok(Value::Int(if left < 0 { left } else { (left + 500) / 1_000 }))
}

pub(super) fn pexpiretime(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(Value::Int(expires(store, &command[1])))
}

fn expire_at(store: &mut ModelStore, command: &[Bytes], time_ms: i64) -> Reply {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in &command[3..] {
        let set = match option.to_ascii_uppercase().as_slice() {
            b"NX" => &mut nx,
            b"XX" => &mut xx,
            b"GT" => &mut gt,
            b"LT" => &mut lt,
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(ModelError::new(format!("ERR Unsupported option {option}")));
            }
        };
        *set = true;
    }
    assert!(!(nx && (xx || gt || lt)) && !(gt && lt), "incompatible options");
    let old = expires(store, &command[1]);
    let later = old != -1 && old < time_ms;
    let earlier = old == -1 || time_ms < old;
    let rejects = (nx && old != -1) || (xx && old == -1) || (gt && !later) || (lt && !earlier);
    if old == -2 || rejects {
        return Ok(flag(false));
    }
    match u64::try_from(time_ms).ok().filter(|time| store.now_ms() < *time) {
        Some(time) => {
            let entry = store.entry_mut(&command[1]).expect("the key was found");
            entry.expires_ms = Some(time);
        }
        None => drop(store.remove(&command[1])),
    }
    Ok(flag(true))
}

fn now(store: &ModelStore) -> i64 {
    i64::try_from(store.now_ms()).expect("the time fits")
}

fn invalid_time(command: &[Bytes]) -> ModelError {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    ModelError::new(format!("ERR invalid expire time in '{name}' command"))
}

pub(super) fn pexpire(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let at = now(store).checked_add(integer(&command[2])?);
    expire_at(store, command, at.ok_or_else(|| invalid_time(command))?)
}

pub(super) fn expire(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let ms = integer(&command[2])?.checked_mul(1_000);
    let at = ms.and_then(|ms| now(store).checked_add(ms));
    expire_at(store, command, at.ok_or_else(|| invalid_time(command))?)
}

pub(super) fn pexpireat(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    expire_at(store, command, integer(&command[2])?)
}

pub(super) fn persist(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let entry = store.entry_mut(&command[1]);
    Ok(flag(entry.is_some_and(|entry| entry.expires_ms.take().is_some())))
}

pub(super) fn flush(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let is_option = |word: &Bytes| is(word, "SYNC") || is(word, "ASYNC");
    if 2 < command.len() || !command[1..].iter().all(is_option) {
        return Err(SYNTAX);
    }
    store.clear();
    Ok(Value::Okay)
}

pub(super) fn dbsize(store: &mut ModelStore, _: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.keys().count()))
}

pub(super) fn keys(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(bulks(store.keys().filter(|key| scan::matches(&command[1], key))))
}

pub(super) fn time(store: &mut ModelStore, _: &[Bytes], _: Protocol) -> Reply {
    let (seconds, micros) = (store.now_us / 1_000_000, store.now_us % 1_000_000);
    Ok(Value::Array(vec![bulk(seconds.to_string()), bulk(micros.to_string())]))
}

pub(super) fn ping(_: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    match command {
        [_] => Ok(Value::SimpleString("PONG".to_owned())),
        [_, text] => Ok(bulk(text.clone())),
        _ => Err(wrong_arity(command)),
    }
}

pub(super) fn echo(_: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(bulk(command[1].clone()))
}
