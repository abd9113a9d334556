//! Tokenizes a PHP file, as far as a configuration needs it.

/// One token and its line, counted from 1.
pub(super) type SpannedToken = (Token, usize);

/// A token of PHP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// A string without variables.
    Text(String),
    /// An integer.
    Number(i64),
    /// A name or keyword.
    Word(String),
    /// `=>`.
    Arrow,
    /// Any other character.
    Punctuation(char),
    /// A token that is not evaluated: a variable, a string with variables, a float.
    Opaque,
}

/// The tokens of `text`.
///
/// # Errors
///
/// The line of a comment, string or heredoc without an end, or 1 if there is no PHP.
pub(super) fn tokens(text: &str) -> Result<Vec<SpannedToken>, usize> {
    let mut lexer = Lexer { text, rest: text, counted: 0, line: 1, tokens: Vec::new() };
    if !lexer.skip_past("<?php") {
        return Err(1);
    }
    while !lexer.rest.is_empty() {
        let line = lexer.line();
        if !lexer.one(line) {
            return Err(line);
        }
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    rest: &'a str,
    /// Number of bytes whose lines are counted in `line`.
    counted: usize,
    line: usize,
    tokens: Vec<SpannedToken>,
}

impl Lexer<'_> {
    fn line(&mut self) -> usize {
        let at = self.text.len() - self.rest.len();
        self.line += self.text[self.counted..at].matches('\n').count();
        self.counted = at;
        self.line
    }

    /// Reads one token, or skips what separates tokens. Returns false if it is not terminated.
    fn one(&mut self, line: usize) -> bool {
        let Some(first) = self.rest.chars().next() else { return true };
        let second = self.rest[first.len_utf8()..].chars().next().unwrap_or_default();
        match (first, second) {
            (c, _) if c.is_whitespace() => self.skip(c.len_utf8()),
            ('/', '*') => return self.skip_past("*/"),
            ('/', '/') => self.line_comment(),
            ('#', next) if next != '[' => self.line_comment(),
            // Text outside of PHP tags is output.
            ('?', '>') => {
                if !self.skip_past("<?php") {
                    self.rest = "";
                }
            }
            ('<', '<') if self.rest.starts_with("<<<") => return self.heredoc(line),
            ('\'', _) => return self.single_quoted(line),
            ('"' | '`', _) => return self.double_quoted(first, line),
            ('=', '>') => self.push(Token::Arrow, 2, line),
            ('$', _) => {
                let name =
                    self.rest[1..].find(|c| !is_part_of_word(c)).unwrap_or(self.rest.len() - 1);
                self.push(Token::Opaque, 1 + name, line);
            }
            ('0'..='9', _) => self.number(line),
            (c, _) if is_part_of_word(c) || c == '\\' => {
                let end = self.rest.find(|c| !is_part_of_word(c) && c != '\\');
                let word = &self.rest[..end.unwrap_or(self.rest.len())];
                self.push(Token::Word(word.to_owned()), word.len(), line);
            }
            (c, _) => self.push(Token::Punctuation(c), c.len_utf8(), line),
        }
        true
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, token: Token, bytes: usize, line: usize) {
        self.tokens.push((token, line));
        self.skip(bytes);
    }

    fn skip_past(&mut self, end: &str) -> bool {
        match self.rest.find(end) {
            Some(at) => {
                self.skip(at + end.len());
                true
            }
            None => false,
        }
    }

    /// Skips a comment up to the end of the line, or of the PHP block.
    fn line_comment(&mut self) {
        let ends = [self.rest.find('\n'), self.rest.find("?>")];
        self.skip(ends.into_iter().flatten().min().unwrap_or(self.rest.len()));
    }

    fn number(&mut self, line: usize) {
        let end =
            self.rest.find(|c: char| !is_part_of_word(c) && c != '.').unwrap_or(self.rest.len());
        let text = self.rest[..end].replace('_', "").to_ascii_lowercase();
        let (digits, radix) = match text.as_bytes() {
            [b'0', b'x', ..] => (&text[2..], 16),
            [b'0', b'b', ..] => (&text[2..], 2),
            [b'0', b'o', ..] => (&text[2..], 8),
            [b'0', _, ..] => (&text[1..], 8),
            _decimal => (text.as_str(), 10),
        };
        let token = i64::from_str_radix(digits, radix).map_or(Token::Opaque, Token::Number);
        self.push(token, end, line);
    }

    fn single_quoted(&mut self, line: usize) -> bool {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.push(Token::Text(text), at + 1, line);
                    return true;
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '\''))) => text.push(c),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => return false,
                },
                c => text.push(c),
            }
        }
        false
    }

    /// Reads a string in `quote`. One with a variable or a rare escape, or a shell command, has no
    /// value.
    fn double_quoted(&mut self, quote: char, line: usize) -> bool {
        let mut text = Some(String::new()).filter(|_| quote == '"');
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            let meant = match (c, chars.peek().map(|(_, c)| *c)) {
                (c, _) if c == quote => {
                    self.push(text.map_or(Token::Opaque, Token::Text), at + 1, line);
                    return true;
                }
                ('$', Some(next)) if is_part_of_word(next) || next == '{' => None,
                ('{', Some('$')) => None,
                ('\\', next) => {
                    chars.next();
                    match next {
                        Some(c @ ('\\' | '"' | '$')) => Some(c),
                        Some('n') => Some('\n'),
                        Some('t') => Some('\t'),
                        Some(_) | None => None,
                    }
                }
                (c, _) => Some(c),
            };
            text = text.zip(meant).map(|(mut text, c)| {
                text.push(c);
                text
            });
        }
        false
    }

    fn heredoc(&mut self, line: usize) -> bool {
        let (first, rest) = self.rest[3..].split_once('\n').unwrap_or_default();
        let name = first.trim().trim_matches(['"', '\'']);
        let mut at = self.rest.len() - rest.len();
        for text in rest.split_inclusive('\n') {
            let indent = text.len() - text.trim_start().len();
            let after = text.trim_start().strip_prefix(name);
            if !name.is_empty() && after.is_some_and(|after| !after.starts_with(is_part_of_word)) {
                self.push(Token::Opaque, at + indent + name.len(), line);
                return true;
            }
            at += text.len();
        }
        false
    }
}

fn is_part_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}
