//! The format of the cases.
//!
//! ```text
//! // A comment.
//! $me g1 a.1 1                      defines $me for the lines below
//! < HSET nodes{0} g g1 n:a.1 1      a command before each case, since no case has begun
//!
//! # a released lease is gone        a case begins
//! < SET lease{0} a.1                a command
//! > nodes{0} lease{0} / $me a.1     a call: its keys, and its arguments
//! = ok $now 1                       the reply: a number, since 1 is not in quotes
//! ~ lease{0} gone                   a key that the call has changed
//! ! bus{0} 'R a.1'                  a message that the call has published
//! ```
//!
//! - `$now` and `$us` are the time of Redis in ms and µs; `$now-5` is 5 less, `$x*40` is a string of 40 `x`, and
//!   `$run` is the run id of Redis. `$logs` is the maximum of bytes of all channel logs of a partition.
//! - A word with spaces, or a text that looks like a number in a reply, has quotes: `'…'` or `"…"`.
//! - `$any` in a reply is any text but `'0'`, for what Redis chooses.
//! - A reply has lists in brackets, and `nil`. A list of more than 40 items is abridged: `[ #512 first last ]`. The
//!   reply `error TEXT` is an error that contains the text.
//! - A changed key has `gone`, or `@TTL` if its time to live has changed (`@none` if it has none any more), and the
//!   type with the content if that has changed: of a hash the changed fields, with `-FIELD` for a removed one; of
//!   others everything, for lists of more than 40 items abridged.
//! - Calls without `~` change nothing, cases without `!` publish nothing.

use std::{collections::HashMap, fmt::Write as _, iter};

/// The time of Redis, in µs since 1970. Its last digits reveal rounding.
pub(super) const NOW_US: i64 = 1_700_000_000_999_500;
const NOW_MS: i64 = NOW_US / 1_000;
/// The placeholder of the run id, which is only available once Redis runs.
const RUN: &str = "$run";
/// The placeholder of any text but `0`.
pub(super) const ANY: &str = "$any";

/// One case: steps with their results.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    /// The published messages, each with its bus, as words.
    pub(super) received: Vec<Vec<String>>,
}

pub(super) enum Step {
    Command(Vec<String>),
    Call(Call),
}

pub(super) struct Call {
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<String>,
    /// The reply, see [`super::state::reply`].
    pub(super) reply: Vec<String>,
    /// The changed keys, see [`super::state::changes`].
    pub(super) changes: Vec<Vec<String>>,
}

/// A word of a line, and whether it was in quotes.
type Word = (String, bool);

/// Reads the cases of a script. `logs_bytes` is the meaning of `$logs`.
pub(super) fn parse(text: &str, logs_bytes: i64) -> Result<Vec<Case>, String> {
    let mut definitions = HashMap::new();
    let (mut common, mut cases): (Vec<Vec<String>>, Vec<Case>) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        let Some((kind, rest)) = line.split_at_checked(1) else { continue };
        let rest = substituted(rest, &definitions, logs_bytes).map_err(|name| wrong(&name))?;
        let words = || words(&rest).map_err(|()| wrong("a quote is open"));
        let plain = || Ok::<_, String>(words()?.into_iter().map(|(word, _)| word).collect());
        match (kind, cases.last_mut()) {
            ("/", _) => {}
            ("$", None) => {
                let (name, meaning) = rest.split_once(' ').ok_or_else(|| wrong("no meaning"))?;
                definitions.insert(name.to_owned(), meaning.trim().to_owned());
            }
            ("<", None) => common.push(plain()?),
            ("#", _) => {
                let steps = common.iter().cloned().map(Step::Command).collect();
                cases.push(Case { name: rest.trim().to_owned(), steps, received: Vec::new() });
            }
            ("<", Some(case)) => case.steps.push(Step::Command(plain()?)),
            (">", Some(case)) => {
                let call = call(plain()?).ok_or_else(|| wrong("no / in the call"))?;
                case.steps.push(Step::Call(call));
            }
            ("!", Some(case)) => case.received.push(plain()?),
            (_, Some(Case { steps, .. })) => {
                let Some(Step::Call(call)) = steps.last_mut() else { return Err(wrong("no call")) };
                match kind {
                    "=" => call.reply = words()?.into_iter().map(canonical).collect(),
                    "~" => call.changes.push(plain()?),
                    _ => return Err(wrong("not understood")),
                }
            }
            _ => return Err(wrong("outside of a case")),
        }
    }
    for case in &cases {
        let calls = case.steps.iter().filter_map(|step| match step {
            Step::Call(call) => Some(call),
            Step::Command(_) => None,
        });
        let replies: Vec<_> = calls.map(|call| !call.reply.is_empty()).collect();
        if replies.is_empty() || replies.contains(&false) {
            return Err(format!("no call, or a call without a reply: {}", case.name));
        }
    }
    Ok(cases)
}

/// A call without its results; `None` without a `/` between keys and arguments.
fn call(mut words: Vec<String>) -> Option<Call> {
    let slash = words.iter().position(|word| word == "/")?;
    let arguments = words.split_off(slash).split_off(1);
    Some(Call { keys: words, arguments, reply: Vec::new(), changes: Vec::new() })
}

/// A word of an expected reply in the form of [`super::state::reply`].
fn canonical((word, is_quoted): Word) -> String {
    let is_mark = ["[", "]", "nil", "error"].contains(&word.as_str());
    let is_bare = !is_quoted && (is_mark || word.parse::<i64>().is_ok());
    if is_bare { word } else { format!("'{word}'") }
}

fn words(line: &str) -> Result<Vec<Word>, ()> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let is_quoted = matches!(first, '\'' | '"');
        let (word, behind) = if is_quoted {
            rest[1..].split_once(first).ok_or(())?
        } else {
            rest.split_once(' ').unwrap_or((rest, ""))
        };
        words.push((word.to_owned(), is_quoted));
        rest = behind.trim_start();
    }
    Ok(words)
}

/// The line with its definitions substituted. The error is an undefined name.
fn substituted(
    line: &str,
    definitions: &HashMap<String, String>,
    logs_bytes: i64,
) -> Result<String, String> {
    let mut parts = line.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = split_while(part, |c| c.is_ascii_alphabetic());
        // An operator and digits.
        let operator = rest.chars().next().filter(|c| "+-*".contains(*c));
        let (digits, behind) = split_while(rest.get(1..).unwrap_or(""), |c| c.is_ascii_digit());
        let number = operator.and_then(|_| digits.parse::<i64>().ok());
        let behind = if number.is_some() { behind } else { rest };
        let number = number.unwrap_or(0) * if operator == Some('-') { -1 } else { 1 };
        match name {
            "now" => write!(text, "{}", NOW_MS + number).expect("memory takes it"),
            "logs" => write!(text, "{}", logs_bytes + number).expect("memory takes it"),
            "us" => write!(text, "{}", NOW_US + number).expect("memory takes it"),
            "x" => text.extend(iter::repeat_n('x', usize::try_from(number).unwrap_or(0))),
            "run" => text.push_str(RUN),
            "any" => text.push_str(ANY),
            name => {
                let meaning = definitions.get(name).ok_or_else(|| format!("${name}"))?;
                text.push_str(meaning);
                text.push_str(rest);
                continue;
            }
        }
        text.push_str(behind);
    }
    Ok(text)
}

fn split_while(text: &str, condition: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !condition(c)).unwrap_or(text.len()))
}

/// The words with the run id of Redis.
pub(super) fn with_run(words: &[String], run: &str) -> Vec<String> {
    words.iter().map(|word| word.replace(RUN, run)).collect()
}
