//! Mutants of Lua scripts, each with one change.

use std::ops::Range;

/// The maximum number of iterations of a mutant's loops. More are treated as endless.
const LOOPS_MAX: usize = 20_000;
/// The first words of statements that can't be removed.
const KEYWORDS: [&str; 14] = [
    "local", "if", "then", "else", "elseif", "end", "for", "while", "do", "repeat", "until",
    "return", "function", "in",
];

/// A changed script.
pub(super) struct ScriptMutant {
    /// The number of the changed line.
    pub(super) line: usize,
    /// The changed line.
    pub(super) changed: String,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MutationKind {
    Name,
    Number,
    Text,
    /// A constant such as `@OVERHEAD@`, or a part.
    Placeholder,
    Operator,
}

struct Token<'a> {
    kind: MutationKind,
    text: &'a str,
    range: Range<usize>,
}

/// All mutants of a script.
pub(super) fn mutants(script: &str) -> Vec<ScriptMutant> {
    let tokens = tokens(script);
    let mut changes = Vec::new();
    for at in 0..tokens.len() {
        changes.extend(replacements(&tokens, at).map(|text| (tokens[at].range.clone(), text)));
        changes.extend(conditions(script, &tokens, at));
    }
    changes.extend(statements(script, &tokens));
    changes.sort_by_key(|(range, _)| range.start);
    let mutant = |(range, replacement): (Range<usize>, String)| {
        let line = 1 + script[..range.start].matches('\n').count();
        let text = format!("{}{replacement}{}", &script[..range.start], &script[range.end..]);
        let line_text = text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        ScriptMutant { line, changed: line_text, text }
    };
    changes.into_iter().map(mutant).collect()
}

/// A script whose endless loops fail.
pub(super) fn with_bounded_loops(script: &str) -> String {
    let tokens = tokens(script);
    let mut text = "local loops = 0 ".to_owned();
    let mut copied = 0;
    let mut is_while = false;
    for token in &tokens {
        is_while |= token.text == "while";
        let is_loop = token.text == "repeat" || is_while && token.text == "do";
        if token.kind == MutationKind::Name && is_loop {
            is_while = false;
            text.push_str(&script[copied..token.range.end]);
            text.push_str(" loops = loops + 1 if loops > ");
            text.push_str(&LOOPS_MAX.to_string());
            text.push_str(" then error('endless') end ");
            copied = token.range.end;
        }
    }
    text + &script[copied..]
}

/// The replacements of a token.
fn replacements<'a>(tokens: &'a [Token<'a>], at: usize) -> impl Iterator<Item = String> + 'a {
    let Token { kind, text, .. } = &tokens[at];
    let before = at.checked_sub(1).map(|before| &tokens[before]);
    let others: Vec<String> = match kind {
        MutationKind::Number => {
            let number: i64 = text.parse().expect("the scripts have whole numbers");
            let is_less = 0 < number && !(number == 1 && is_index_of_text(tokens, at));
            let less = is_less.then(|| (number - 1).to_string());
            [(number + 1).to_string()].into_iter().chain(less).collect()
        }
        MutationKind::Text => vec![format!("{}~{}", &text[..text.len() - 1], &text[..1])],
        MutationKind::Placeholder if is_constant(text) => {
            vec![format!("({text} + 1)"), format!("({text} - 1)")]
        }
        MutationKind::Placeholder => Vec::new(),
        MutationKind::Name | MutationKind::Operator => {
            let is_unary = before.is_none_or(|before| {
                !matches!(before.text, ")" | "]")
                    && (before.kind == MutationKind::Operator || KEYWORDS.contains(&before.text))
            });
            let others: &[&str] = match *text {
                "==" => &["~="],
                "~=" => &["=="],
                "<" => &["<=", ">"],
                "<=" => &["<", ">="],
                ">" => &[">=", "<"],
                ">=" => &[">", "<="],
                "and" => &["or"],
                "or" => &["and"],
                "not" => &[""],
                "-" if is_unary => &[""],
                "-" | "*" => &["+"],
                "+" => &["-"],
                "/" | "%" => &["*"],
                "true" => &["false"],
                "false" => &["true"],
                "max" => &["min"],
                "min" => &["max"],
                "floor" => &["ceil"],
                "pcall" => &["call"],
                // A key of another type is not replaced.
                "call_or_reset" if before.is_some_and(|before| before.text != "local") => {
                    &["redis.call"]
                }
                _ => &[],
            };
            others.iter().map(|other| (*other).to_owned()).collect()
        }
    };
    others.into_iter()
}

/// Whether a number is an index in a text, where 0 is the same as 1.
fn is_index_of_text(tokens: &[Token<'_>], at: usize) -> bool {
    let (mut depth, mut commas) = (0, 0);
    for before in (1..at).rev() {
        match tokens[before].text {
            ")" | "]" | "}" => depth += 1,
            "," if depth == 0 => commas += 1,
            "(" if depth == 0 => return tokens[before - 1].text == "sub" && commas == 1,
            "(" | "[" | "{" => depth -= 1,
            _ => {}
        }
    }
    false
}

fn is_constant(placeholder: &str) -> bool {
    let is_part = super::lua::INCLUDES.iter().any(|(name, _)| *name == placeholder);
    !is_part && (placeholder.contains('_') || placeholder == "@OVERHEAD@")
}

/// A condition that always or never holds, and a loop that ends at once.
fn conditions(script: &str, tokens: &[Token<'_>], at: usize) -> Vec<(Range<usize>, String)> {
    let begin = tokens[at].range.end;
    let word = tokens[at].text;
    let until = |word: &str| tokens[at..].iter().find(|token| token.text == word);
    match word {
        "if" | "elseif" | "while" => {
            let end = until(if word == "while" { "do" } else { "then" });
            let range = begin..end.expect("the script is whole").range.start;
            let condition = script[range.clone()].trim();
            let always = (word != "while").then(|| format!(" true or ({condition}) "));
            let never = format!(" false and ({condition}) ");
            always.into_iter().chain([never]).map(|text| (range.clone(), text)).collect()
        }
        "until" => {
            let end = begin + script[begin..].find('\n').unwrap_or(script.len() - begin);
            vec![(begin..end, format!(" true or {}", script[begin..end].trim()))]
        }
        "for" => {
            let end = until("do").expect("the script is whole").range.end;
            vec![(end..end, " if true then break end".to_owned())]
        }
        _ => Vec::new(),
    }
}

/// The statements of one line, as comments.
fn statements(script: &str, tokens: &[Token<'_>]) -> Vec<(Range<usize>, String)> {
    let (mut begin, mut depth, mut found) = (0, 0_i32, Vec::new());
    for line in script.split_inclusive('\n') {
        let range = begin..begin + line.trim_end().len();
        begin += line.len();
        let inner = tokens.iter().filter(|token| range.contains(&token.range.start));
        let inner: Vec<&Token<'_>> = inner.collect();
        let depth_before = depth;
        for token in &inner {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
        }
        let Some(first) = inner.first() else { continue };
        let is_statement = first.kind == MutationKind::Name && depth_before == 0 && depth == 0;
        if is_statement && inner.iter().all(|token| !KEYWORDS.contains(&token.text)) {
            let start = first.range.start;
            found.push((start..range.end, format!("-- {}", &script[start..range.end])));
        }
    }
    found
}

fn tokens(script: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(first) = script[at..].chars().next() {
        let rest = &script[at..];
        let len_while =
            |condition: fn(char) -> bool| rest.find(|c| !condition(c)).unwrap_or(rest.len());
        let (kind, len) = match first {
            _ if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '\'' => (MutationKind::Text, 2 + rest[1..].find('\'').expect("a text ends")),
            '@' => {
                (MutationKind::Placeholder, 2 + rest[1..].find('@').expect("a placeholder ends"))
            }
            '0'..='9' => (MutationKind::Number, len_while(|c| c.is_ascii_digit())),
            'a'..='z' | 'A'..='Z' | '_' => {
                (MutationKind::Name, len_while(|c| c.is_ascii_alphanumeric() || c == '_'))
            }
            _ => {
                let long = ["...", "==", "~=", "<=", ">=", ".."];
                let long = long.iter().find(|operator| rest.starts_with(**operator));
                (MutationKind::Operator, long.map_or(first.len_utf8(), |operator| operator.len()))
            }
        };
        tokens.push(Token { kind, text: &rest[..len], range: at..at + len });
        at += len;
    }
    tokens
}

#[test]
fn mutants_are_made_of_each_rule() {
    let script = "local a = b[string.sub(x, 1, 1)]\nif not a or x <= 5 then return 'no' end\nredis.call('DEL', -a)\nfor _ = 1, 2 do f() end\n";
    let changed: Vec<String> = mutants(script).into_iter().map(|mutant| mutant.changed).collect();
    let expected = [
        "local a = b[string.sub(x, 2, 1)]",
        "local a = b[string.sub(x, 1, 2)]",
        "local a = b[string.sub(x, 1, 0)]",
        "if true or (not a or x <= 5) then return 'no' end",
        "if false and (not a or x <= 5) then return 'no' end",
        "if  a or x <= 5 then return 'no' end",
        "if not a and x <= 5 then return 'no' end",
        "if not a or x < 5 then return 'no' end",
        "if not a or x >= 5 then return 'no' end",
        "if not a or x <= 6 then return 'no' end",
        "if not a or x <= 4 then return 'no' end",
        "if not a or x <= 5 then return 'no~' end",
        "-- redis.call('DEL', -a)",
        "redis.call('DEL~', -a)",
        "redis.call('DEL', a)",
        "for _ = 2, 2 do f() end",
        "for _ = 0, 2 do f() end",
        "for _ = 1, 3 do f() end",
        "for _ = 1, 1 do f() end",
        "for _ = 1, 2 do if true then break end f() end",
    ];
    assert_eq!(changed, expected);
}

#[test]
fn loops_without_a_count_get_a_bound() {
    let script =
        with_bounded_loops("while x do f() end\nrepeat g() until y\nfor _ = 1, 2 do h() end");
    assert_eq!(script.matches("error('endless')").count(), 2, "{script}");
}
