//! Evaluates the value that a PHP file returns, as far as that is possible without executing it.

use super::token::{Placed, Token};

/// A value and its line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A value of PHP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Number(i64),
    Text(String),
    Array(Vec<Entry>),
    /// A value that only PHP can compute.
    Computed,
}

/// An element of an array, with its key if it has one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Option<Value>,
    pub(super) node: Node,
}

/// How deep arrays, calls, parentheses and casts are followed.
const DEPTH_MAX: usize = 32;

/// Looks a variable up as Laravel's `env()` does: its value, if it is set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<Value>;

/// The value that the file of `tokens` returns, or none if it may return another one.
pub(super) fn returned(tokens: &[Placed], env: Env<'_>) -> Option<Node> {
    let is_return =
        |token: &Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("return"));
    let at = tokens.iter().position(|(token, _)| is_return(token))?;
    let opened = tokens[..at].iter().filter(|(token, _)| *token == Token::Sign('{')).count();
    let conditional = |token: &Token| {
        matches!(token, Token::Word(word) if ["if", "switch", "while", "for", "foreach", "goto"]
            .contains(&word.to_ascii_lowercase().as_str()))
    };
    if opened > 0 || tokens[..at].iter().any(|(token, _)| conditional(token)) {
        return None;
    }
    let mut parser = Parser { tokens: &tokens[at + 1..], env, depth: 0 };
    let node = parser.expression(false);
    (parser.peek() == Some(&Token::Sign(';'))).then_some(node)
}

struct Parser<'a> {
    tokens: &'a [Placed],
    env: Env<'a>,
    depth: usize,
}

impl Parser<'_> {
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
        let is_there = self.peek() == Some(&Token::Sign(sign));
        if is_there {
            self.take();
        }
        is_there
    }

    /// Parses one expression up to its end. Anything but a single value is computed.
    fn expression(&mut self, is_key: bool) -> Node {
        let line = self.line();
        let value = self.primary();
        let value = if self.is_at_end(is_key) { value } else { Value::Computed };
        self.skip_to_end(is_key);
        Node { value, line }
    }

    fn is_at_end(&self, is_key: bool) -> bool {
        match self.peek() {
            None | Some(Token::Sign(',' | ')' | ']' | '}' | ';')) => true,
            Some(Token::Arrow) => is_key,
            Some(_) => false,
        }
    }

    fn skip_to_end(&mut self, is_key: bool) {
        let mut open = 0_usize;
        while open > 0 || !self.is_at_end(is_key) {
            match self.take() {
                Some(Token::Sign('(' | '[' | '{')) => open += 1,
                Some(Token::Sign(')' | ']' | '}')) => open = open.saturating_sub(1),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Parses the beginning of an expression. All nesting passes through here and counts for the depth.
    fn primary(&mut self) -> Value {
        self.depth += 1;
        let value = if self.depth > DEPTH_MAX { Value::Computed } else { self.primary_within() };
        self.depth -= 1;
        value
    }

    fn primary_within(&mut self) -> Value {
        match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.take();
                Value::Text(text)
            }
            Some(Token::Number(number)) => {
                self.take();
                Value::Number(number)
            }
            Some(Token::Sign('-')) => {
                self.take();
                match self.take() {
                    Some(Token::Number(number)) => Value::Number(-number),
                    Some(_) | None => Value::Computed,
                }
            }
            Some(Token::Sign('[')) => {
                self.take();
                self.array(']')
            }
            Some(Token::Sign('(')) => {
                self.take();
                self.parenthesis()
            }
            Some(Token::Word(word)) => {
                self.take();
                self.word(&word.trim_start_matches('\\').to_ascii_lowercase())
            }
            Some(_) | None => Value::Computed,
        }
    }

    /// Parses a cast, or an expression in parentheses.
    fn parenthesis(&mut self) -> Value {
        let inner = self.tokens.iter().take(2).map(|(token, _)| token).collect::<Vec<_>>();
        if let [Token::Word(word), Token::Sign(')')] = inner[..]
            && let Some(cast) = cast(&word.to_ascii_lowercase())
        {
            self.tokens = &self.tokens[2..];
            return cast(self.primary());
        }
        let node = self.expression(false);
        if self.take_sign(')') { node.value } else { Value::Computed }
    }

    fn word(&mut self, word: &str) -> Value {
        if self.take_sign('(') {
            if word == "array" {
                return self.array(')');
            }
            let arguments = self.arguments();
            return arguments.map_or(Value::Computed, |arguments| self.call(word, &arguments));
        }
        match word {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            "null" => Value::Null,
            _constant => Value::Computed,
        }
    }

    /// Parses the arguments of a call, if all of them are values.
    fn arguments(&mut self) -> Option<Vec<Value>> {
        let mut arguments = Vec::new();
        while self.peek()? != &Token::Sign(')') {
            arguments.push(self.expression(false).value);
            if !self.take_sign(',') {
                break;
            }
        }
        self.take_sign(')').then_some(arguments)
    }

    /// Evaluates the calls that configurations use to read a list from the environment.
    fn call(&self, name: &str, arguments: &[Value]) -> Value {
        match (name, arguments) {
            ("env", [Value::Text(name), default @ ..]) if default.len() < 2 => {
                let default = default.first().cloned().unwrap_or(Value::Null);
                (self.env)(name).unwrap_or(default)
            }
            ("explode", [Value::Text(between), Value::Text(text)]) if !between.is_empty() => {
                list(text.split(between.as_str()).map(str::to_owned))
            }
            ("array_filter" | "array_unique" | "array_values", [array @ Value::Array(_)]) => {
                match texts(array) {
                    Some(texts) => list(
                        texts.into_iter().filter(|text| !text.is_empty() || name != "array_filter"),
                    ),
                    None => Value::Computed,
                }
            }
            ("array_map", [Value::Text(function), array]) if function == "trim" => texts(array)
                .map_or(Value::Computed, |texts| {
                    list(texts.into_iter().map(|text| text.trim().to_owned()))
                }),
            ("trim", [Value::Text(text)]) => Value::Text(text.trim().to_owned()),
            _unknown => Value::Computed,
        }
    }

    /// Parses the content of an array's brackets.
    fn array(&mut self, end: char) -> Value {
        let mut entries = Vec::new();
        while !self.take_sign(end) {
            if self.tokens.is_empty() {
                return Value::Computed;
            }
            let first = self.expression(true);
            let entry = if self.peek() == Some(&Token::Arrow) {
                self.take();
                Entry { key: Some(first.value), node: self.expression(false) }
            } else {
                Entry { key: None, node: first }
            };
            entries.push(entry);
            if !self.take_sign(',') && self.peek() != Some(&Token::Sign(end)) {
                return Value::Computed;
            }
        }
        Value::Array(entries)
    }
}

fn cast(to: &str) -> Option<fn(Value) -> Value> {
    match to {
        "int" | "integer" => Some(|value| match value {
            Value::Text(text) => text.trim().parse().map_or(Value::Computed, Value::Number),
            Value::Boolean(truth) => Value::Number(truth.into()),
            Value::Null => Value::Number(0),
            value @ (Value::Number(_) | Value::Array(_) | Value::Computed) => value,
        }),
        "bool" | "boolean" => Some(|value| match value {
            Value::Text(text) => Value::Boolean(!matches!(text.as_str(), "" | "0")),
            Value::Number(number) => Value::Boolean(number != 0),
            Value::Null => Value::Boolean(false),
            Value::Array(entries) => Value::Boolean(!entries.is_empty()),
            value @ (Value::Boolean(_) | Value::Computed) => value,
        }),
        "string" => Some(|value| match value {
            Value::Number(number) => Value::Text(number.to_string()),
            Value::Null => Value::Text(String::new()),
            value @ Value::Text(_) => value,
            Value::Boolean(_) | Value::Array(_) | Value::Computed => Value::Computed,
        }),
        "array" => Some(|value| match value {
            value @ (Value::Array(_) | Value::Computed) => value,
            Value::Null => Value::Array(Vec::new()),
            value @ (Value::Boolean(_) | Value::Number(_) | Value::Text(_)) => {
                Value::Array(vec![Entry { key: None, node: Node { value, line: 0 } }])
            }
        }),
        _other => None,
    }
}

fn list(texts: impl Iterator<Item = String>) -> Value {
    let entry = |text| Entry { key: None, node: Node { value: Value::Text(text), line: 0 } };
    Value::Array(texts.map(entry).collect())
}

/// The strings of a list, if it contains nothing else.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    let Value::Array(entries) = value else { return None };
    let text = |entry: &Entry| match (&entry.key, &entry.node.value) {
        (None | Some(Value::Number(_)), Value::Text(text)) => Some(text.clone()),
        _no_text => None,
    };
    entries.iter().map(text).collect()
}

impl Node {
    /// The element `key` of this array: the last of that name, as in PHP. None if it is missing;
    /// computed if only PHP can determine it.
    pub(super) fn get(&self, key: &str) -> Option<Node> {
        let computed = Node { value: Value::Computed, line: self.line };
        let entries = match &self.value {
            Value::Array(entries) => entries,
            Value::Computed => return Some(computed),
            Value::Null | Value::Boolean(_) | Value::Number(_) | Value::Text(_) => return None,
        };
        for entry in entries.iter().rev() {
            match (&entry.key, &entry.node.value) {
                (Some(Value::Text(text)), _) if text == key => return Some(entry.node.clone()),
                // It may have that name, or contain an element of that name.
                (Some(Value::Computed), _) | (None, Value::Computed) => return Some(computed),
                _other => {}
            }
        }
        None
    }
}
