//! Reads the configuration of nginx: directives with their places.

use std::{fs, path::Path};

/// A directive, and those in its block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Directive {
    /// The name and the arguments, without quotes.
    pub(super) words: Vec<String>,
    pub(super) file: String,
    /// The line, counted from 1.
    pub(super) line: usize,
    pub(super) block: Vec<Directive>,
}

/// Maximum depth of blocks and of included files.
const DEPTH_MAX: usize = 16;

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn argument(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// The directives of this name in the block, at any depth.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.block.iter().flat_map(move |inner| {
            std::iter::once(inner).filter(move |inner| inner.name() == name).chain(inner.all(name))
        }))
    }
}

/// The directives of a file and of those that it includes, in a block without a name.
pub(super) fn read(file: &Path) -> Option<Directive> {
    let block = read_file(file, file.parent().unwrap_or(Path::new("/")), 0)?;
    let file = file.display().to_string();
    Some(Directive { words: Vec::new(), file, line: 0, block })
}

fn read_file(file: &Path, root: &Path, depth: usize) -> Option<Vec<Directive>> {
    let text = fs::read_to_string(file).ok().filter(|_| depth < DEPTH_MAX)?;
    let mut tokens = Tokens { rest: &text, line: 1 };
    let name = file.display().to_string();
    Some(included(parse_block(&mut tokens, &name, 0), root, depth))
}

/// The directives, with those of included files in the place of `include`.
fn included(block: Vec<Directive>, root: &Path, depth: usize) -> Vec<Directive> {
    let replaced = block.into_iter().flat_map(|directive| {
        if directive.name() != "include" {
            let block = included(directive.block, root, depth);
            return vec![Directive { block, ..directive }];
        }
        let files = matching(&root.join(directive.argument()));
        files.iter().filter_map(|file| read_file(file, root, depth + 1)).flatten().collect()
    });
    replaced.collect()
}

/// The files that a path names, whose last part may have one `*`.
fn matching(path: &Path) -> Vec<std::path::PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((start, end)) = name.split_once('*') else { return vec![path.to_path_buf()] };
    let entries =
        fs::read_dir(path.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten();
    let is_match = |name: &str| {
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    };
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_match))
        .map(|entry| entry.path())
        .collect();
    files.sort_unstable();
    files
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

/// A word, or one of `;`, `{` and `}`.
#[derive(Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    Sign(char),
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let c = self.rest.chars().next()?;
            match c {
                '#' => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                }
                c if c.is_whitespace() => self.skip(c.len_utf8()),
                ';' | '{' | '}' => {
                    self.skip(1);
                    return Some(Token::Sign(c));
                }
                '"' | '\'' => {
                    let inner = &self.rest[1..];
                    let end = inner.find(c).unwrap_or(inner.len());
                    let word = inner[..end].to_owned();
                    self.skip((end + 2).min(self.rest.len()));
                    return Some(Token::Word(word));
                }
                _ => {
                    let word = self.word();
                    return Some(Token::Word(word));
                }
            }
        }
    }
}

impl Tokens<'_> {
    /// A word without quotes. `${name}` is part of it.
    fn word(&mut self) -> String {
        let mut is_variable = false;
        let end = self.rest.find(|c: char| {
            is_variable = (is_variable && c != '}') || c == '$';
            c.is_whitespace() || c == ';' || (c == '{' && !is_variable)
        });
        let end = end.unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.skip(end);
        word
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }
}

/// The directives up to the end of the block.
fn parse_block(tokens: &mut Tokens<'_>, file: &str, depth: usize) -> Vec<Directive> {
    let (mut block, mut words, mut line) = (Vec::new(), Vec::new(), 0);
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    line = tokens.line;
                }
                words.push(word);
            }
            Token::Sign('}') => break,
            Token::Sign(sign) => {
                let is_block = sign == '{' && depth < DEPTH_MAX;
                let inner =
                    if is_block { parse_block(tokens, file, depth + 1) } else { Vec::new() };
                let words = std::mem::take(&mut words);
                block.push(Directive { words, file: file.to_owned(), line, block: inner });
            }
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Directive {
        let mut tokens = Tokens { rest: text, line: 1 };
        let block = parse_block(&mut tokens, "f", 0);
        Directive { words: Vec::new(), file: "f".into(), line: 0, block }
    }

    #[test]
    fn directives_have_their_lines_and_arguments() {
        let text = "events { worker_connections 768; }\n# server {\nhttp {\n  server {\n    location /app {\n      proxy_set_header Connection \"a;b\";\n      proxy_pass http://127.0.0.1:${port}8080;\n    }\n  }\n}\n";
        let all = parse(text);
        let found: Vec<_> =
            all.all("proxy_pass").map(|found| (found.argument(), found.line)).collect();
        assert_eq!(found, [("http://127.0.0.1:${port}8080", 7)]);
        assert_eq!(all.all("worker_connections").next().unwrap().argument(), "768");
        assert_eq!(all.all("proxy_set_header").next().unwrap().words[2], "a;b");
        assert_eq!(all.all("location").next().unwrap().block.len(), 2);
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let text = "a \"é;\n{ b 'c; } ; ${x{ # é";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = parse(&text[..end]);
        }
        let _ = parse(&"a{".repeat(1_000));
    }
}
