//! Evaluates the value that a PHP file returns, as far as that is possible without executing it.

use super::token::{SpannedToken, Token};

/// A value and its line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PhpNode {
    pub(super) value: PhpValue,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A value of PHP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PhpValue {
    Null,
    Boolean(bool),
    Number(i64),
    String(String),
    Array(Vec<ArrayElement>),
    /// A value that only PHP can compute.
    Dynamic,
}

/// An element of an array, with its key if it has one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ArrayElement {
    pub(super) key: Option<PhpValue>,
    pub(super) node: PhpNode,
}

/// The maximum nesting of arrays, calls, parentheses and casts.
const DEPTH_MAX: usize = 32;

/// Looks up a variable like Laravel's `env()`: its value, if it is set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<PhpValue>;

/// The value that the file of `tokens` returns, or none if it can return another one.
pub(super) fn returned(tokens: &[SpannedToken], env: Env<'_>) -> Option<PhpNode> {
    let is_return =
        |token: &Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("return"));
    let at = tokens.iter().position(|(token, _)| is_return(token))?;
    let opened = tokens[..at].iter().filter(|(token, _)| *token == Token::Punctuation('{')).count();
    let conditional = |token: &Token| {
        matches!(token, Token::Word(word) if ["if", "switch", "while", "for", "foreach", "goto"]
            .contains(&word.to_ascii_lowercase().as_str()))
    };
    if opened > 0 || tokens[..at].iter().any(|(token, _)| conditional(token)) {
        return None;
    }
    let mut parser = PhpParser { tokens: &tokens[at + 1..], env, depth: 0 };
    let node = parser.expression(false);
    (parser.peek() == Some(&Token::Punctuation(';'))).then_some(node)
}

struct PhpParser<'a> {
    tokens: &'a [SpannedToken],
    env: Env<'a>,
    depth: usize,
}

impl PhpParser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.first().map(|(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens.first().map_or(0, |(_, line)| *line)
    }

    fn take(&mut self) -> Option<Token> {
        let ((token, _), rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(token.clone())
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let is_there = self.peek() == Some(&Token::Punctuation(sign));
        if is_there {
            self.take();
        }
        is_there
    }

    /// Parses one expression to its end. Anything but a single value is computed.
    fn expression(&mut self, is_key: bool) -> PhpNode {
        let line = self.line();
        let value = self.primary();
        let value = if self.is_at_end(is_key) { value } else { PhpValue::Dynamic };
        self.skip_to_end(is_key);
        PhpNode { value, line }
    }

    fn is_at_end(&self, is_key: bool) -> bool {
        match self.peek() {
            None | Some(Token::Punctuation(',' | ')' | ']' | '}' | ';')) => true,
            Some(Token::Arrow) => is_key,
            Some(_) => false,
        }
    }

    fn skip_to_end(&mut self, is_key: bool) {
        let mut open = 0_usize;
        while open > 0 || !self.is_at_end(is_key) {
            match self.take() {
                Some(Token::Punctuation('(' | '[' | '{')) => open += 1,
                Some(Token::Punctuation(')' | ']' | '}')) => open = open.saturating_sub(1),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Parses the beginning of an expression. Each nested expression passes through here and counts towards the depth.
    fn primary(&mut self) -> PhpValue {
        self.depth += 1;
        let value = if self.depth > DEPTH_MAX { PhpValue::Dynamic } else { self.primary_within() };
        self.depth -= 1;
        value
    }

    fn primary_within(&mut self) -> PhpValue {
        match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.take();
                PhpValue::String(text)
            }
            Some(Token::Number(number)) => {
                self.take();
                PhpValue::Number(number)
            }
            Some(Token::Punctuation('-')) => {
                self.take();
                match self.take() {
                    Some(Token::Number(number)) => PhpValue::Number(-number),
                    Some(_) | None => PhpValue::Dynamic,
                }
            }
            Some(Token::Punctuation('[')) => {
                self.take();
                self.array(']')
            }
            Some(Token::Punctuation('(')) => {
                self.take();
                self.parenthesis()
            }
            Some(Token::Word(word)) => {
                self.take();
                self.word(&word.trim_start_matches('\\').to_ascii_lowercase())
            }
            Some(_) | None => PhpValue::Dynamic,
        }
    }

    /// Parses a cast, or an expression in parentheses.
    fn parenthesis(&mut self) -> PhpValue {
        let inner = self.tokens.iter().take(2).map(|(token, _)| token).collect::<Vec<_>>();
        if let [Token::Word(word), Token::Punctuation(')')] = inner[..]
            && let Some(cast) = cast(&word.to_ascii_lowercase())
        {
            self.tokens = &self.tokens[2..];
            return cast(self.primary());
        }
        let node = self.expression(false);
        if self.take_sign(')') { node.value } else { PhpValue::Dynamic }
    }

    fn word(&mut self, word: &str) -> PhpValue {
        if self.take_sign('(') {
            if word == "array" {
                return self.array(')');
            }
            let arguments = self.arguments();
            return arguments.map_or(PhpValue::Dynamic, |arguments| self.call(word, &arguments));
        }
        match word {
            "true" => PhpValue::Boolean(true),
            "false" => PhpValue::Boolean(false),
            "null" => PhpValue::Null,
            _constant => PhpValue::Dynamic,
        }
    }

    /// Parses the arguments of a call, if all of them are values.
    fn arguments(&mut self) -> Option<Vec<PhpValue>> {
        let mut arguments = Vec::new();
        while self.peek()? != &Token::Punctuation(')') {
            arguments.push(self.expression(false).value);
            if !self.take_sign(',') {
                break;
            }
        }
        self.take_sign(')').then_some(arguments)
    }

    /// Evaluates the calls that configurations use to read a list from the environment.
    fn call(&self, name: &str, arguments: &[PhpValue]) -> PhpValue {
        match (name, arguments) {
            ("env", [PhpValue::String(name), default @ ..]) if default.len() < 2 => {
                let default = default.first().cloned().unwrap_or(PhpValue::Null);
                (self.env)(name).unwrap_or(default)
            }
            ("explode", [PhpValue::String(between), PhpValue::String(text)])
                if !between.is_empty() =>
            {
                list(text.split(between.as_str()).map(str::to_owned))
            }
            ("array_filter" | "array_unique" | "array_values", [array @ PhpValue::Array(_)]) => {
                match strings(array) {
                    Some(texts) => list(
                        texts.into_iter().filter(|text| !text.is_empty() || name != "array_filter"),
                    ),
                    None => PhpValue::Dynamic,
                }
            }
            ("array_map", [PhpValue::String(function), array]) if function == "trim" => {
                strings(array).map_or(PhpValue::Dynamic, |texts| {
                    list(texts.into_iter().map(|text| text.trim().to_owned()))
                })
            }
            ("trim", [PhpValue::String(text)]) => PhpValue::String(text.trim().to_owned()),
            _unknown => PhpValue::Dynamic,
        }
    }

    /// Parses the content of an array's brackets.
    fn array(&mut self, end: char) -> PhpValue {
        let mut entries = Vec::new();
        while !self.take_sign(end) {
            if self.tokens.is_empty() {
                return PhpValue::Dynamic;
            }
            let first = self.expression(true);
            let entry = if self.peek() == Some(&Token::Arrow) {
                self.take();
                ArrayElement { key: Some(first.value), node: self.expression(false) }
            } else {
                ArrayElement { key: None, node: first }
            };
            entries.push(entry);
            if !self.take_sign(',') && self.peek() != Some(&Token::Punctuation(end)) {
                return PhpValue::Dynamic;
            }
        }
        PhpValue::Array(entries)
    }
}

fn cast(to: &str) -> Option<fn(PhpValue) -> PhpValue> {
    match to {
        "int" | "integer" => Some(|value| match value {
            PhpValue::String(text) => {
                text.trim().parse().map_or(PhpValue::Dynamic, PhpValue::Number)
            }
            PhpValue::Boolean(truth) => PhpValue::Number(truth.into()),
            PhpValue::Null => PhpValue::Number(0),
            value @ (PhpValue::Number(_) | PhpValue::Array(_) | PhpValue::Dynamic) => value,
        }),
        "bool" | "boolean" => Some(|value| match value {
            PhpValue::String(text) => PhpValue::Boolean(!matches!(text.as_str(), "" | "0")),
            PhpValue::Number(number) => PhpValue::Boolean(number != 0),
            PhpValue::Null => PhpValue::Boolean(false),
            PhpValue::Array(entries) => PhpValue::Boolean(!entries.is_empty()),
            value @ (PhpValue::Boolean(_) | PhpValue::Dynamic) => value,
        }),
        "string" => Some(|value| match value {
            PhpValue::Number(number) => PhpValue::String(number.to_string()),
            PhpValue::Null => PhpValue::String(String::new()),
            value @ PhpValue::String(_) => value,
            PhpValue::Boolean(_) | PhpValue::Array(_) | PhpValue::Dynamic => PhpValue::Dynamic,
        }),
        "array" => Some(|value| match value {
            value @ (PhpValue::Array(_) | PhpValue::Dynamic) => value,
            PhpValue::Null => PhpValue::Array(Vec::new()),
            value @ (PhpValue::Boolean(_) | PhpValue::Number(_) | PhpValue::String(_)) => {
                PhpValue::Array(vec![ArrayElement { key: None, node: PhpNode { value, line: 0 } }])
            }
        }),
        _other => None,
    }
}

fn list(texts: impl Iterator<Item = String>) -> PhpValue {
    let entry =
        |text| ArrayElement { key: None, node: PhpNode { value: PhpValue::String(text), line: 0 } };
    PhpValue::Array(texts.map(entry).collect())
}

/// The strings of a list, if it contains nothing else.
pub(super) fn strings(value: &PhpValue) -> Option<Vec<String>> {
    let PhpValue::Array(entries) = value else { return None };
    let text = |entry: &ArrayElement| match (&entry.key, &entry.node.value) {
        (None | Some(PhpValue::Number(_)), PhpValue::String(text)) => Some(text.clone()),
        _no_text => None,
    };
    entries.iter().map(text).collect()
}

impl PhpNode {
    /// The element `key` of this array: the last of that name, as in PHP. None if it is missing;
    /// computed if only PHP can determine it.
    pub(super) fn get(&self, key: &str) -> Option<PhpNode> {
        let computed = PhpNode { value: PhpValue::Dynamic, line: self.line };
        let entries = match &self.value {
            PhpValue::Array(entries) => entries,
            PhpValue::Dynamic => return Some(computed),
            PhpValue::Null | PhpValue::Boolean(_) | PhpValue::Number(_) | PhpValue::String(_) => {
                return None;
            }
        };
        for entry in entries.iter().rev() {
            match (&entry.key, &entry.node.value) {
                (Some(PhpValue::String(text)), _) if text == key => {
                    return Some(entry.node.clone());
                }
                // The element can have that name, or contain an element of that name.
                (Some(PhpValue::Dynamic), _) | (None, PhpValue::Dynamic) => {
                    return Some(computed);
                }
                _other => {}
            }
        }
        None
    }
}
