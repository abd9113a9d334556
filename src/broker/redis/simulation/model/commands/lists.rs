//! Commands on lists.

use super::{
    super::{
        replies::{Bytes, ModelError, NOT_AN_INTEGER, Reply, bulk, bulk_or_nil, int, integer},
        store::ModelStore,
    },
    Protocol, bulks, range,
};
use redis::Value;
use std::collections::VecDeque;

type List = VecDeque<Bytes>;

pub(super) fn lpush(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let len = store.upsert(&command[1], |list: &mut List| {
        command[2..].iter().for_each(|item| list.push_front(item.clone()));
        list.len()
    })?;
    Ok(int(len))
}

pub(super) fn rpush(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let len = store.upsert(&command[1], |list: &mut List| {
        list.extend(command[2..].iter().cloned());
        list.len()
    })?;
    Ok(int(len))
}

fn pop(store: &mut ModelStore, command: &[Bytes], pop: fn(&mut List) -> Option<Bytes>) -> Reply {
    if 3 < command.len() {
        return Err(super::wrong_arity(command));
    }
    let Some(count) = command.get(2) else {
        let popped = store.change(&command[1], pop)?;
        return Ok(bulk_or_nil(popped.flatten().as_ref()));
    };
    let out_of_range = ModelError::new("ERR value is out of range, must be positive");
    let count = usize::try_from(integer(count).map_err(|_| out_of_range.clone())?);
    let count = count.map_err(|_| out_of_range)?;
    let popped = store.change(&command[1], |list: &mut List| {
        (0..count.min(list.len())).filter_map(|_| pop(list)).map(bulk).collect()
    })?;
    Ok(popped.map_or(Value::Nil, Value::Array))
}

pub(super) fn lpop(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    pop(store, command, VecDeque::pop_front)
}

pub(super) fn rpop(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    pop(store, command, VecDeque::pop_back)
}

pub(super) fn llen(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.read::<List>(&command[1])?.map_or(0, VecDeque::len)))
}

pub(super) fn lrange(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (start, stop) = (integer(&command[2])?, integer(&command[3])?);
    let Some(list) = store.read::<List>(&command[1])? else { return Ok(Value::Array(Vec::new())) };
    Ok(bulks(list.range(range(start, stop, list.len()))))
}

/// The position of an index, which counts from the end if it is negative.
fn position(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).expect("it fits");
    let index = if index < 0 { len.saturating_add(index) } else { index };
    usize::try_from(index).ok().filter(|_| index < len)
}

pub(super) fn lindex(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    // Redis looks up the key before it parses the index.
    let Some(list) = store.read::<List>(&command[1])? else { return Ok(Value::Nil) };
    let position = position(integer(&command[2])?, list.len());
    Ok(bulk_or_nil(position.and_then(|position| list.get(position))))
}

pub(super) fn ltrim(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (start, stop) = (integer(&command[2])?, integer(&command[3])?);
    store.change(&command[1], |list: &mut List| {
        let kept = range(start, stop, list.len());
        list.truncate(kept.end);
        list.drain(..kept.start);
    })?;
    Ok(Value::Okay)
}

pub(super) fn lrem(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let count = integer(&command[2])?;
    let most = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let removed = store.change(&command[1], |list: &mut List| {
        let mut removed = 0;
        let mut keep = |item: &Bytes| {
            let goes = *item == command[3] && removed < most;
            removed += u64::from(goes);
            !goes
        };
        if count < 0 {
            let kept = std::mem::take(list).into_iter().rev().filter(&mut keep);
            *list = kept.collect();
            list.make_contiguous().reverse();
        } else {
            list.retain(keep);
        }
        removed
    })?;
    Ok(Value::Int(i64::try_from(removed.unwrap_or(0)).map_err(|_| NOT_AN_INTEGER)?))
}

pub(super) fn lset(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let no_key = ModelError::new("ERR no such key");
    let index = store.read::<List>(&command[1])?.map(|_| integer(&command[2])).ok_or(no_key)??;
    let set = store.change(&command[1], |list: &mut List| {
        let place = position(index, list.len()).and_then(|position| list.get_mut(position));
        place.map(|place| place.clone_from(&command[3]))
    })?;
    set.flatten().map(|()| Value::Okay).ok_or(ModelError::new("ERR index out of range"))
}

pub(super) fn lpos(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    assert!(command.len() == 3, "the model's LPOS does not support options: {:?}", command[3]);
    let list = store.read::<List>(&command[1])?;
    let position = list.and_then(|list| list.iter().position(|item| *item == command[2]));
    Ok(position.map_or(Value::Nil, int))
}
