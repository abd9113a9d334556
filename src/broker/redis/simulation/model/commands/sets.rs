//! Commands on sets.

use super::{
    super::{
        replies::{Bytes, ModelError, Reply, bulk, flag, int, integer},
        store::ModelStore,
    },
    Protocol,
};
use redis::Value;
use std::collections::BTreeSet;

type Set = BTreeSet<Bytes>;

pub(super) fn sadd(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let added = store.upsert(&command[1], |set: &mut Set| {
        command[2..].iter().filter(|member| set.insert((*member).clone())).count()
    })?;
    Ok(int(added))
}

pub(super) fn srem(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let removed = store.change(&command[1], |set: &mut Set| {
        command[2..].iter().filter(|member| set.remove(*member)).count()
    })?;
    Ok(int(removed.unwrap_or(0)))
}

pub(super) fn scard(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.read::<Set>(&command[1])?.map_or(0, BTreeSet::len)))
}

pub(super) fn sismember(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let set = store.read::<Set>(&command[1])?;
    Ok(flag(set.is_some_and(|set| set.contains(&command[2]))))
}

pub(super) fn smismember(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let set = store.read::<Set>(&command[1])?;
    let is_member = |member| flag(set.is_some_and(|set| set.contains(member)));
    Ok(Value::Array(command[2..].iter().map(is_member).collect()))
}

pub(super) fn smembers(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let set = store.read::<Set>(&command[1])?.into_iter().flatten();
    Ok(Value::Set(set.map(|member| bulk(member.clone())).collect()))
}

/// This number of distinct members, in random order.
fn choose(store: &mut ModelStore, mut members: Vec<Bytes>, count: usize) -> Vec<Bytes> {
    let mut chosen = Vec::new();
    while chosen.len() < count && !members.is_empty() {
        let at = store.random_below(members.len());
        chosen.push(members.swap_remove(at));
    }
    chosen
}

fn members(store: &mut ModelStore, key: &Bytes) -> Result<Vec<Bytes>, ModelError> {
    Ok(store.read::<Set>(key)?.into_iter().flatten().cloned().collect())
}

pub(super) fn srandmember(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    if 3 < command.len() {
        return Err(super::super::replies::SYNTAX);
    }
    let count = command.get(2).map(|count| integer(count)).transpose()?;
    let members = members(store, &command[1])?;
    if members.is_empty() {
        return Ok(if count.is_some() { Value::Array(Vec::new()) } else { Value::Nil });
    }
    let Some(count) = count else {
        let at = store.random_below(members.len());
        return Ok(bulk(members[at].clone()));
    };
    let many = usize::try_from(count.unsigned_abs()).expect("it fits");
    let chosen: Vec<Bytes> = if count < 0 {
        (0..many).map(|_| members[store.random_below(members.len())].clone()).collect()
    } else {
        choose(store, members, many)
    };
    Ok(Value::Array(chosen.into_iter().map(bulk).collect()))
}

pub(super) fn spop(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    if 3 < command.len() {
        return Err(super::super::replies::SYNTAX);
    }
    let count = match command.get(2) {
        Some(count) => {
            let out_of_range = ModelError::new("ERR value is out of range, must be positive");
            let count = integer(count).ok().and_then(|count| usize::try_from(count).ok());
            Some(count.ok_or(out_of_range)?)
        }
        None => None,
    };
    let members = members(store, &command[1])?;
    let chosen = choose(store, members, count.unwrap_or(1));
    if !chosen.is_empty() {
        let mut removal = vec![b"SREM".to_vec(), command[1].clone()];
        removal.extend(chosen.iter().cloned());
        srem(store, &removal, Protocol::Resp2)?;
        store.effects.push(removal);
    }
    let mut chosen = chosen.into_iter().map(bulk);
    Ok(if count.is_some() {
        Value::Set(chosen.collect())
    } else {
        chosen.next().unwrap_or(Value::Nil)
    })
}
