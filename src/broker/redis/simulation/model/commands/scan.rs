//! The `SCAN` commands, which return a collection page by page.
//!
//! Names are ordered by their hashes, and the cursor is the next hash: a name that exists from the first page to the
//! last is returned, even if others are added or removed. Redis guarantees no more. Unlike Redis, which returns small
//! collections whole, the model always keeps to `COUNT`, so that callers must follow the cursor.

use super::{
    super::{
        replies::{Bytes, ModelError, Reply, SYNTAX, bulk, integer},
        store::ModelStore,
    },
    Protocol, is,
};
use redis::Value;
use std::collections::{BTreeMap, BTreeSet};

fn cursor(word: &[u8]) -> Result<u64, ModelError> {
    let number = str::from_utf8(word).ok().and_then(|text| text.parse().ok());
    number.ok_or(ModelError::new("ERR invalid cursor"))
}

struct Options<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    count: usize,
}

impl<'a> Options<'a> {
    fn read(cursor: u64, words: &'a [Bytes]) -> Result<Self, ModelError> {
        let mut options = Self { cursor, pattern: None, count: 10 };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(SYNTAX)?;
            if is(word, "MATCH") {
                options.pattern = Some(value);
            } else if is(word, "COUNT") {
                let count = integer(value)?;
                options.count =
                    usize::try_from(count).ok().filter(|count| 0 < *count).ok_or(SYNTAX)?;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }

    /// The next page of the names, and the cursor after it.
    fn page<'b>(&self, names: impl Iterator<Item = &'b Bytes>) -> (Vec<&'b Bytes>, u64) {
        let hashed = names.map(|name| (hash(name), name));
        let mut left: Vec<(u64, &Bytes)> =
            hashed.filter(|(hash, _)| self.cursor <= *hash).collect();
        left.sort_unstable();
        let mut page = Vec::new();
        for (at, (hash, name)) in left.iter().enumerate() {
            if self.count <= at && left[at - 1].0 < *hash {
                return (page, *hash);
            }
            if self.pattern.is_none_or(|pattern| matches(pattern, name)) {
                page.push(*name);
            }
        }
        (page, 0)
    }
}

/// FNV-1a. Never 0, since that cursor means the end.
fn hash(name: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    let hash = name.iter().fold(0xCBF2_9CE4_8422_2325, step);
    // Clients parse cursors as numbers that may be signed.
    (hash >> 2) + 1
}

fn page_reply(cursor: u64, items: Vec<Value>) -> Value {
    Value::Array(vec![bulk(cursor.to_string()), Value::Array(items)])
}

pub(super) fn hscan(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let cursor = cursor(&command[2])?;
    let hash = store.read::<BTreeMap<Bytes, Bytes>>(&command[1])?;
    let Some(hash) = hash else { return Ok(page_reply(0, Vec::new())) };
    let options = Options::read(cursor, &command[3..])?;
    let (page, cursor) = options.page(hash.keys());
    let pairs = page.into_iter().flat_map(|field| [field.clone(), hash[field].clone()]);
    Ok(page_reply(cursor, pairs.map(bulk).collect()))
}

pub(super) fn sscan(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let cursor = cursor(&command[2])?;
    let Some(set) = store.read::<BTreeSet<Bytes>>(&command[1])? else {
        return Ok(page_reply(0, Vec::new()));
    };
    let options = Options::read(cursor, &command[3..])?;
    let (page, cursor) = options.page(set.iter());
    Ok(page_reply(cursor, page.into_iter().map(|member| bulk(member.clone())).collect()))
}

pub(super) fn scan(store: &mut ModelStore, command: &[Bytes], _: Protocol) -> Reply {
    let options = Options::read(cursor(&command[1])?, &command[2..])?;
    let (page, cursor) = options.page(store.keys());
    Ok(page_reply(cursor, page.into_iter().map(|key| bulk(key.clone())).collect()))
}

/// Whether a name matches a pattern of Redis: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a literal character.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    let after = |is_match: bool, rest: &[u8]| is_match && matches(rest, &name[1..]);
    match first {
        b'*' => matches(rest, name) || (!name.is_empty() && matches(pattern, &name[1..])),
        _ if name.is_empty() => false,
        b'?' => after(true, rest),
        b'[' => {
            let (is_match, rest) = class(rest, name[0]);
            after(is_match, rest)
        }
        b'\\' if !rest.is_empty() => after(rest[0] == name[0], &rest[1..]),
        byte => after(*byte == name[0], rest),
    }
}

/// Whether a byte is in the class whose bracket is open; also returns the pattern after the class.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_negated, mut rest) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut is_match = false;
    loop {
        match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', one, after @ ..] => {
                is_match |= *one == byte;
                rest = after;
            }
            [from, b'-', to, after @ ..] => {
                is_match |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest = after;
            }
            [one, after @ ..] => {
                is_match |= *one == byte;
                rest = after;
            }
        }
    }
    (is_match != is_negated, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, name, is_match) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("n:*", "n:1", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is_match, "{pattern} {name}");
        }
    }
}
