//! The data in Redis, and the changes of a call.

use std::collections::{BTreeMap, BTreeSet};

use kit::Resp;

use super::case::ANY;

/// Returns the state of Redis.
pub(super) const SCRIPT: &str = include_str!("state.lua");
/// A list with more items is abridged.
const LIST_MAX: usize = 40;

/// All keys.
pub(super) type State = BTreeMap<String, Key>;

/// A key, and its content.
#[derive(Eq, PartialEq)]
pub(super) struct Key {
    kind: String,
    ttl: i64,
    content: Vec<String>,
}

/// Reads the reply of [`SCRIPT`].
pub(super) fn read(reply: &Resp) -> Option<State> {
    let Resp::List(keys) = reply else { return None };
    let key = |key: &Resp| {
        let Resp::List(parts) = key else { return None };
        let [Resp::Text(name), Resp::Text(kind), Resp::Number(ttl), content] = parts.as_slice()
        else {
            return None;
        };
        let mut content = content.texts();
        // These types are unordered.
        match kind.as_str() {
            "set" => content.sort(),
            "hash" => {
                let mut pairs: Vec<_> = content.chunks_exact(2).map(<[_]>::to_vec).collect();
                pairs.sort();
                content = pairs.concat();
            }
            _ => {}
        }
        Some((name.clone(), Key { kind: kind.clone(), ttl: *ttl, content }))
    };
    keys.iter().map(key).collect()
}

/// The changed keys, as words of lines that begin with `~`.
pub(super) fn changes(before: &State, after: &State) -> Vec<Vec<String>> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| [vec![name.clone()], change(before.get(name), after.get(name))].concat())
        .collect()
}

fn change(before: Option<&Key>, after: Option<&Key>) -> Vec<String> {
    let Some(after) = after else { return vec!["gone".to_owned()] };
    let mut words = Vec::new();
    if before.map_or(-1, |before| before.ttl) != after.ttl {
        words.push(if after.ttl < 0 { "@none".to_owned() } else { format!("@{}", after.ttl) });
    }
    let before = before.filter(|before| before.kind == after.kind);
    if before.is_some_and(|before| before.content == after.content) {
        return words;
    }
    words.push(after.kind.clone());
    if after.kind == "hash" {
        words.extend(changed_fields(before.map_or(&[], |before| &before.content), &after.content));
    } else {
        words.extend(abridged(after.content.clone()));
    }
    words
}

fn changed_fields(before: &[String], after: &[String]) -> Vec<String> {
    let fields = |content: &[String]| -> BTreeMap<String, String> {
        content.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    let (before, after) = (fields(before), fields(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed
        .flat_map(|name| match after.get(name) {
            Some(value) => vec![name.clone(), value.clone()],
            None => vec![format!("-{name}")],
        })
        .collect()
}

fn abridged(items: Vec<String>) -> Vec<String> {
    match items.as_slice() {
        [first, .., last] if LIST_MAX < items.len() => {
            vec![format!("#{}", items.len()), first.clone(), last.clone()]
        }
        _ => items,
    }
}

/// A reply as the words of a line that begins with `=`, texts in quotes.
pub(super) fn reply(reply: &Resp) -> Vec<String> {
    match reply {
        Resp::Number(number) => vec![number.to_string()],
        Resp::Text(text) => vec![format!("'{text}'")],
        Resp::Null => vec!["nil".to_owned()],
        Resp::Error(error) => vec!["error".to_owned(), format!("'{error}'")],
        Resp::List(items) => {
            let words = items.iter().map(|item| match item {
                Resp::List(_) => {
                    [vec!["[".to_owned()], self::reply(item), vec!["]".to_owned()]].concat()
                }
                item @ (Resp::Text(_) | Resp::Error(_) | Resp::Number(_) | Resp::Null) => {
                    self::reply(item)
                }
            });
            let words: Vec<Vec<String>> = words.collect();
            if LIST_MAX < words.len() {
                let (first, last) = (words[0].concat(), words[words.len() - 1].concat());
                return vec![format!("'#{}'", words.len()), first, last];
            }
            words.concat()
        }
    }
}

/// Whether a reply is the expected one, which can contain a part of an error.
pub(super) fn is_reply(actual: &[String], expected: &[String]) -> bool {
    match (actual, expected) {
        ([kind, error], [expected_kind, part]) if kind == "error" => {
            expected_kind == kind && error.contains(part.trim_matches('\''))
        }
        _ => {
            let is_same = |(actual, expected): (&String, &String)| {
                let is_text = actual.starts_with('\'') && actual != "'0'";
                actual == expected || expected.trim_matches('\'') == ANY && is_text
            };
            actual.len() == expected.len() && actual.iter().zip(expected).all(is_same)
        }
    }
}
