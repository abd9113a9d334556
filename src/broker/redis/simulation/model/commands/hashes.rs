//! Commands on hashes.

use super::{
    super::{
        replies::{Bytes, ModelError, OVERFLOW, Reply, bulk, bulk_or_nil, flag, int, integer},
        store::ModelStore,
    },
    Protocol, bulks, wrong_arity,
};
use redis::Value;
use std::collections::BTreeMap;

type Hash = BTreeMap<Bytes, Bytes>;

pub(super) fn hget(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let hash = store.read::<Hash>(&command[1])?;
    Ok(bulk_or_nil(hash.and_then(|hash| hash.get(&command[2]))))
}

pub(super) fn hmget(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let hash = store.read::<Hash>(&command[1])?;
    let get = |field| bulk_or_nil(hash.and_then(|hash| hash.get(field)));
    Ok(Value::Array(command[2..].iter().map(get).collect()))
}

fn set_all(store: &mut ModelStore, command: &[Bytes]) -> Result<usize, ModelError> {
    if !command.len().is_multiple_of(2) {
        return Err(wrong_arity(command));
    }
    store.upsert(&command[1], |hash: &mut Hash| {
        let mut added = 0;
        for pair in command[2..].chunks_exact(2) {
            if let Some(value) = hash.get_mut(&pair[0]) {
                value.clone_from(&pair[1]);
            } else {
                hash.insert(pair[0].clone(), pair[1].clone());
                added += 1;
            }
        }
        added
    })
}

pub(super) fn hset(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    set_all(store, command).map(int)
}

pub(super) fn hmset(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    set_all(store, command).map(|_| Value::Okay)
}

pub(super) fn hsetnx(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let hash = store.read::<Hash>(&command[1])?;
    if hash.is_some_and(|hash| hash.contains_key(&command[2])) {
        return Ok(flag(false));
    }
    set_all(store, command).map(int)
}

pub(super) fn hdel(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let removed = store.change(&command[1], |hash: &mut Hash| {
        command[2..].iter().filter(|field| hash.remove(*field).is_some()).count()
    })?;
    Ok(int(removed.unwrap_or(0)))
}

pub(super) fn hgetall(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let hash = store.read::<Hash>(&command[1])?.into_iter().flatten();
    Ok(Value::Map(hash.map(|(field, value)| (bulk(field.clone()), bulk(value.clone()))).collect()))
}

pub(super) fn hkeys(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(bulks(store.read::<Hash>(&command[1])?.into_iter().flat_map(Hash::keys)))
}

pub(super) fn hvals(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(bulks(store.read::<Hash>(&command[1])?.into_iter().flat_map(Hash::values)))
}

pub(super) fn hlen(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.read::<Hash>(&command[1])?.map_or(0, Hash::len)))
}

pub(super) fn hstrlen(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let hash = store.read::<Hash>(&command[1])?;
    Ok(int(hash.and_then(|hash| hash.get(&command[2])).map_or(0, Vec::len)))
}

pub(super) fn hexists(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let hash = store.read::<Hash>(&command[1])?;
    Ok(flag(hash.is_some_and(|hash| hash.contains_key(&command[2]))))
}

pub(super) fn hincrby(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let more = integer(&command[3])?;
    let hash = store.read::<Hash>(&command[1])?;
    let not_an_integer = |_| ModelError::new("ERR hash value is not an integer");
    let value = match hash.and_then(|hash| hash.get(&command[2])) {
        Some(text) => integer(text).map_err(not_an_integer)?,
        None => 0,
    };
    let sum = value.checked_add(more).ok_or(OVERFLOW)?;
    store.upsert(&command[1], |hash: &mut Hash| {
        hash.insert(command[2].clone(), sum.to_string().into_bytes());
    })?;
    Ok(Value::Int(sum))
}
