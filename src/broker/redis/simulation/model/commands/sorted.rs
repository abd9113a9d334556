//! Commands on sorted sets.

use super::{
    super::{
        replies::{
            Bytes, ModelError, NOT_A_FLOAT, Reply, SYNTAX, bulk, float, general, int, integer,
        },
        store::{ModelStore, Sorted},
    },
    Protocol, is, range,
};
use redis::Value;

fn score_value(score: f64, protocol: Protocol) -> Value {
    match protocol {
        Protocol::Resp3 => Value::Double(score),
        Protocol::Resp2 => bulk(general(score, 17)),
    }
}

#[expect(clippy::struct_excessive_bools, reason = "they are the options of the command")]
#[derive(Clone, Copy, Default)]
struct Conditions {
    only_new: bool,
    only_old: bool,
    only_greater: bool,
    only_less: bool,
    counts_changes: bool,
}

impl Conditions {
    /// Parses the options before the first score. Returns them and their number.
    fn read(words: &[Bytes]) -> Result<(Self, usize), ModelError> {
        let mut read = Self::default();
        let mut count = 0;
        for word in words {
            let option = match word.to_ascii_uppercase().as_slice() {
                b"NX" => &mut read.only_new,
                b"XX" => &mut read.only_old,
                b"GT" => &mut read.only_greater,
                b"LT" => &mut read.only_less,
                b"CH" => &mut read.counts_changes,
                b"INCR" => panic!("the model's ZADD does not support INCR"),
                _ => break,
            };
            *option = true;
            count += 1;
        }
        if read.only_new && read.only_old {
            let text = "ERR XX and NX options at the same time are not compatible";
            return Err(ModelError::new(text));
        }
        if (read.only_greater && read.only_less)
            || (read.only_new && (read.only_greater || read.only_less))
        {
            let text = "ERR GT, LT, and/or NX options at the same time are not compatible";
            return Err(ModelError::new(text));
        }
        Ok((read, count))
    }

    fn allow(self, old: Option<f64>, new: f64) -> bool {
        match old {
            None => !self.only_old,
            Some(old) => {
                !self.only_new
                    && (!self.only_greater || old < new)
                    && (!self.only_less || new < old)
            }
        }
    }
}

pub(super) fn zadd(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (conditions, options) = Conditions::read(&command[2..])?;
    let pairs = &command[2 + options..];
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    let mut scored = Vec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks_exact(2) {
        scored.push((float(&pair[0]).ok_or(NOT_A_FLOAT)?, &pair[1]));
    }
    if conditions.only_old && store.read::<Sorted>(&command[1])?.is_none() {
        return Ok(int(0));
    }
    let count = store.upsert(&command[1], |sorted: &mut Sorted| {
        let (mut added, mut changed) = (0, 0);
        for (score, member) in scored {
            let old = sorted.scores.get(member).copied();
            if conditions.allow(old, score) && old != Some(score) {
                added += usize::from(sorted.insert(member, score));
                changed += 1;
            }
        }
        if conditions.counts_changes { changed } else { added }
    })?;
    Ok(int(count))
}

pub(super) fn zincrby(store: &mut ModelStore, command: &[Bytes], protocol: Protocol) -> Reply {
    let more = float(&command[2]).ok_or(NOT_A_FLOAT)?;
    let set = store.read::<Sorted>(&command[1])?;
    let old = set.and_then(|set| set.scores.get(&command[3]));
    let sum = old.copied().unwrap_or(0.0) + more;
    if sum.is_nan() {
        return Err(ModelError::new("ERR resulting score is not a number (NaN)"));
    }
    store.upsert(&command[1], |sorted: &mut Sorted| sorted.insert(&command[3], sum))?;
    Ok(score_value(sum, protocol))
}

pub(super) fn zrem(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let removed = store.change(&command[1], |sorted: &mut Sorted| {
        command[2..].iter().filter(|member| sorted.remove(member)).count()
    })?;
    Ok(int(removed.unwrap_or(0)))
}

pub(super) fn zscore(store: &mut ModelStore, command: &[Bytes], protocol: Protocol) -> Reply {
    let set = store.read::<Sorted>(&command[1])?;
    let found = set.and_then(|set| set.scores.get(&command[2]));
    Ok(found.map_or(Value::Nil, |score| score_value(*score, protocol)))
}

pub(super) fn zcard(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(store.read::<Sorted>(&command[1])?.map_or(0, |sorted| sorted.scores.len())))
}

pub(super) fn zrank(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let sorted = store.read::<Sorted>(&command[1])?;
    let rank = sorted.and_then(|sorted| sorted.iter().position(|(at, _)| *at == command[2]));
    Ok(rank.map_or(Value::Nil, int))
}

/// A bound of a range of scores, which is inclusive or exclusive.
struct Bound {
    score: f64,
    excludes: bool,
}

impl Bound {
    fn read(word: &[u8]) -> Result<Self, ModelError> {
        let (excludes, number) = match word.strip_prefix(b"(") {
            Some(number) => (true, number),
            None => (false, word),
        };
        // An empty number is read as zero.
        let score = if number.is_empty() { Some(0.0) } else { float(number) };
        let score = score.ok_or(ModelError::new("ERR min or max is not a float"))?;
        Ok(Self { score, excludes })
    }

    fn is_min_of(&self, score: f64) -> bool {
        if self.excludes { self.score < score } else { self.score <= score }
    }

    fn is_max_of(&self, score: f64) -> bool {
        if self.excludes { score < self.score } else { score <= self.score }
    }
}

fn within(
    store: &mut ModelStore,
    key: &Bytes,
    min: &[u8],
    max: &[u8],
) -> Result<Vec<(Bytes, f64)>, ModelError> {
    let (min, max) = (Bound::read(min)?, Bound::read(max)?);
    let sorted = store.read::<Sorted>(key)?;
    let all = sorted.into_iter().flat_map(Sorted::iter);
    let inside = all.filter(|(_, score)| min.is_min_of(*score) && max.is_max_of(*score));
    Ok(inside.map(|(member, score)| (member.clone(), score)).collect())
}

fn list(members: Vec<(Bytes, f64)>, with_scores: bool, protocol: Protocol) -> Value {
    let mut values = Vec::with_capacity(members.len());
    for (member, score) in members {
        match (with_scores, protocol) {
            (false, _) => values.push(bulk(member)),
            (true, Protocol::Resp2) => values.extend([bulk(member), score_value(score, protocol)]),
            (true, Protocol::Resp3) => {
                values.push(Value::Array(vec![bulk(member), score_value(score, protocol)]));
            }
        }
    }
    Value::Array(values)
}

pub(super) fn zcount(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    Ok(int(within(store, &command[1], &command[2], &command[3])?.len()))
}

pub(super) fn zrange(store: &mut ModelStore, command: &[Bytes], protocol: Protocol) -> Reply {
    let (mut with_scores, mut is_reversed) = (false, false);
    for option in &command[4..] {
        if is(option, "WITHSCORES") {
            with_scores = true;
        } else if is(option, "REV") {
            is_reversed = true;
        } else {
            panic!(
                "the model's ZRANGE does not support the option {:?}",
                String::from_utf8_lossy(option)
            );
        }
    }
    let (start, stop) = (integer(&command[2])?, integer(&command[3])?);
    let Some(sorted) = store.read::<Sorted>(&command[1])? else {
        return Ok(Value::Array(Vec::new()));
    };
    let chosen = range(start, stop, sorted.scores.len());
    let copy = |(member, score): (&Bytes, f64)| (member.clone(), score);
    let members = if is_reversed {
        sorted.iter().rev().skip(chosen.start).take(chosen.len()).map(copy).collect()
    } else {
        sorted.iter().skip(chosen.start).take(chosen.len()).map(copy).collect()
    };
    Ok(list(members, with_scores, protocol))
}

pub(super) fn zrangebyscore(
    store: &mut ModelStore,
    command: &[Bytes],
    protocol: Protocol,
) -> Reply {
    let (mut with_scores, mut offset, mut count) = (false, 0, -1);
    let mut options = command[4..].iter();
    while let Some(option) = options.next() {
        if is(option, "WITHSCORES") {
            with_scores = true;
        } else if is(option, "LIMIT") {
            offset = integer(options.next().ok_or(SYNTAX)?)?;
            count = integer(options.next().ok_or(SYNTAX)?)?;
        } else {
            return Err(SYNTAX);
        }
    }
    let mut members = within(store, &command[1], &command[2], &command[3])?;
    if offset < 0 {
        members.clear();
    } else {
        let offset = usize::try_from(offset).expect("it fits").min(members.len());
        members.drain(..offset);
        if let Ok(count) = usize::try_from(count) {
            members.truncate(count);
        }
    }
    Ok(list(members, with_scores, protocol))
}

fn remove_all(store: &mut ModelStore, key: &Bytes, members: &[(Bytes, f64)]) -> Reply {
    store.change(key, |sorted: &mut Sorted| {
        for (member, _) in members {
            sorted.remove(member);
        }
    })?;
    Ok(int(members.len()))
}

pub(super) fn zremrangebyscore(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let members = within(store, &command[1], &command[2], &command[3])?;
    remove_all(store, &command[1], &members)
}

pub(super) fn zremrangebyrank(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let (start, stop) = (integer(&command[2])?, integer(&command[3])?);
    let sorted = store.read::<Sorted>(&command[1])?;
    let all: Vec<(Bytes, f64)> = sorted
        .into_iter()
        .flat_map(Sorted::iter)
        .map(|(member, score)| (member.clone(), score))
        .collect();
    let chosen = range(start, stop, all.len());
    remove_all(store, &command[1], &all[chosen])
}
