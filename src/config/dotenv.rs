//! The grammar of `.env` files as PHP's phpdotenv has it, since Laravel's files are written for it.
//!
//! No crate reads this dialect: others read a bare `$` as a variable, replace unknown variables by
//! empty text, and find comments in other places. A secret with a dollar sign must have the same
//! value as in Laravel.

use std::collections::BTreeMap;

/// A syntax error.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct SyntaxError {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// What is wrong with the line, by phpdotenv's grammar.
    pub(super) message: &'static str,
}

/// The variables of `text`. `${NAME}` stands for a variable of `env` or of an earlier line, and for
/// itself if there is no such variable. A name without `=` is no variable.
///
/// # Errors
///
/// The first line with a syntax error.
pub(super) fn parse(
    text: &str,
    env: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SyntaxError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut parser = DotenvParser { rest: text, env, variables: BTreeMap::new() };
    while !parser.rest.is_empty() {
        let start = parser.rest;
        parser.entry().map_err(|message| {
            let line = 1 + text[..text.len() - start.len()].matches('\n').count();
            SyntaxError { line, message }
        })?;
    }
    Ok(parser.variables)
}

struct DotenvParser<'a> {
    rest: &'a str,
    env: &'a BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

impl DotenvParser<'_> {
    /// One line, or as many as a quoted value has.
    fn entry(&mut self) -> Result<(), &'static str> {
        let line = self.rest.lines().next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.end_line();
            return Ok(());
        }
        let Some((name, _)) = line.split_once('=') else {
            self.end_line();
            return name_of(trimmed).map(drop);
        };
        self.rest = &self.rest[name.len() + 1..];
        let name = name_of(name)?;
        let value = self.value()?;
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    fn value(&mut self) -> Result<String, &'static str> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        let value = match self.rest.chars().next() {
            Some('"') => self.double_quoted()?,
            Some('\'') => self.single_quoted()?,
            Some(_) | None => return self.unquoted(),
        };
        self.trailing()?;
        Ok(value)
    }

    fn unquoted(&mut self) -> Result<String, &'static str> {
        let mut value = String::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '#' => break,
                c if c.is_whitespace() => break,
                '$' => self.dollar(&mut value),
                c => value.push(self.take(c)),
            }
        }
        self.trailing()?;
        Ok(value)
    }

    fn single_quoted(&mut self) -> Result<String, &'static str> {
        let line = self.rest[1..].lines().next().unwrap_or_default();
        let (value, _) = line.split_once('\'').ok_or("a quote is not closed")?;
        self.rest = &self.rest[value.len() + 2..];
        Ok(value.to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, &'static str> {
        self.take('"');
        let mut value = String::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '"' => {
                    self.take(c);
                    return Ok(value);
                }
                '\\' => value.push(self.escape()?),
                '$' => self.dollar(&mut value),
                c => value.push(self.take(c)),
            }
        }
        Err("a quote is not closed")
    }

    fn escape(&mut self) -> Result<char, &'static str> {
        self.take('\\');
        let c = self.rest.chars().next().ok_or("a quote is not closed")?;
        let meant = match c {
            '"' | '\\' | '$' => c,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'f' => '\u{c}',
            _unknown => return Err(r#"unknown escape: expected one of " \ $ n r t v f"#),
        };
        self.take(c);
        Ok(meant)
    }

    /// A dollar sign, or the variable that it begins.
    fn dollar(&mut self, value: &mut String) {
        let name = self
            .rest
            .strip_prefix("${")
            .and_then(|rest| rest.split_once('}'))
            .map(|(name, _)| name);
        let found = name.and_then(|name| self.env.get(name).or_else(|| self.variables.get(name)));
        match (name, found) {
            (Some(name), Some(found)) => {
                value.push_str(found);
                self.rest = &self.rest[name.len() + 3..];
            }
            (Some(_) | None, _) => value.push(self.take('$')),
        }
    }

    /// Skips white space and a comment after a value.
    fn trailing(&mut self) -> Result<(), &'static str> {
        let line = self.rest.split('\n').next().unwrap_or_default().trim();
        if !line.is_empty() && !line.starts_with('#') {
            return Err("a value with white space needs quotes");
        }
        self.end_line();
        Ok(())
    }

    fn end_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
    }

    /// Skips `c`, with which the rest starts.
    fn take(&mut self, c: char) -> char {
        self.rest = &self.rest[c.len_utf8()..];
        c
    }
}

/// The name of a variable, without `export` and quotes.
fn name_of(text: &str) -> Result<&str, &'static str> {
    let text = text.trim();
    let text = text.strip_prefix("export ").unwrap_or(text).trim();
    let bare = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let name = bare.unwrap_or(text);
    if name.is_empty() || name.contains(|c: char| !c.is_alphanumeric() && c != '_' && c != '.') {
        return Err("a line must be NAME=value, the name of letters, digits, dots and underscores");
    }
    Ok(name)
}
