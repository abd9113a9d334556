//! The tree itself under test: layers point down, files and functions stay small, and nothing is
//! left that a reader would trip over.

mod circles;
mod documents;
mod protocol;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Each module's layer. A module may name those of its own layer and of lower ones; one that is
/// not listed may not be there.
const LAYERS: &[(&str, u8)] = &[
    ("main", 7),
    ("cli", 7),
    ("server", 6),
    ("shard", 5),
    ("http", 5),
    ("console", 5),
    ("node", 4),
    ("broker", 3),
    ("webhook", 3),
    ("session", 2),
    ("hub", 2),
    ("signature", 1),
    ("app", 1),
    ("app_database", 1),
    ("channel", 1),
    ("protocol", 0),
    ("backoff", 0),
    ("escape", 0),
    ("snippet", 0),
    ("alarm", 0),
    ("clock", 0),
    ("config", 0),
    ("file", 0),
    ("host", 0),
    ("http_client", 0),
    ("rate", 0),
    ("recent", 0),
    ("permit", 0),
    ("metrics", 0),
    ("shutdown", 0),
    ("throttle", 0),
    ("tls", 0),
];
/// Modules that do no I/O and never wait, and what they may therefore not use.
const PURE: &[&str] = &[
    "protocol",
    "session",
    "hub",
    "channel",
    "app",
    "signature",
    "backoff",
    "escape",
    "snippet",
    "rate",
    "permit",
    "config",
    "host",
    "throttle",
];
const WAITING: &[&str] =
    &["tokio::net", "tokio::time", "tokio::task", "std::net::Tcp", "thread::sleep"];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const BANNED: &[&str] =
    &["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "should_panic", "#[allow("];

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() && !path.ends_with("node_modules") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn files_in(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut paths);
    }
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a file of the repository");
        let inner = path.strip_prefix(root()).expect("below the root").to_owned();
        let module = inner.components().nth(1).expect("below a folder").as_os_str();
        let module = module.to_string_lossy().trim_end_matches(".rs").to_owned();
        Source { path: inner, module, text }
    };
    paths.into_iter().map(source).collect()
}

/// Lines without comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The modules of the crate that a line names: `crate::a`, or each of `use crate::{a::…, b::…}`.
fn named_modules(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut in_list = false;
    for (number, line) in code(text) {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            if !rest.starts_with('{') {
                named.push((number, word(rest)));
            }
        }
        if in_list && line.starts_with("    ") && !line.starts_with("     ") {
            named.push((number, word(line.trim_start())));
        }
        if line.starts_with("use crate::{") {
            match line.split_once('{').and_then(|(_, rest)| rest.strip_suffix("};")) {
                Some(list) => named.extend(list.split(", ").map(|item| (number, word(item)))),
                None => in_list = true,
            }
        }
        in_list &= !line.starts_with("};");
    }
    named.retain(|(_, module)| !module.is_empty());
    named
}

#[test]
fn modules_use_only_lower_layers() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in files_in(&["src"]) {
        if source.module == "lib" {
            continue;
        }
        let Some(own) = layers.get(source.module.as_str()) else {
            wrong.push(format!("{}: is in no layer", source.path.display()));
            continue;
        };
        for (line, named) in named_modules(&source.text) {
            if layers.get(named.as_str()).is_none_or(|layer| own < layer) {
                wrong.push(format!(
                    "{}:{line}: {} may not use {named}",
                    source.path.display(),
                    source.module
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_layers_sees_every_form_of_use() {
    let text = "use crate::{\n    hub::Hub,\n    node::{A,\n        B},\n};\nuse crate::{app::App, rate};\nlet x = crate::http::f();\n// crate::none\n";
    let named: Vec<String> = named_modules(text).into_iter().map(|(_, module)| module).collect();
    assert_eq!(named, ["hub", "node", "app", "rate", "http"]);
}

#[test]
fn pure_modules_do_no_io() {
    let mut wrong = Vec::new();
    for source in files_in(&["src"]) {
        if !PURE.contains(&source.module.as_str()) {
            continue;
        }
        for (line, text) in code(&source.text) {
            if let Some(word) = WAITING.iter().find(|word| text.contains(**word)) {
                wrong.push(format!("{}:{line}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_and_functions_are_within_size_limits() {
    let mut wrong = Vec::new();
    for source in files_in(&["src", "protocol-tests", "examples"]) {
        let lines = source.text.lines().count();
        if FILE_LINES_MAX < lines {
            wrong.push(format!("{}: {lines} lines", source.path.display()));
        }
        let mut open: Option<(usize, usize)> = None;
        for (number, line) in code(&source.text) {
            let indent = line.len() - line.trim_start().len();
            let begins = [
                "fn ",
                "async fn ",
                "pub fn ",
                "pub async fn ",
                "pub(super) fn ",
                "pub(super) async fn ",
            ]
            .iter()
            .any(|start| line.trim_start().starts_with(start));
            if begins && open.is_none() {
                open = Some((number, indent));
            }
            if let Some((start, at)) = open
                && line.trim_end() == format!("{}}}", " ".repeat(at))
            {
                if FUNCTION_LINES_MAX < number - start + 1 {
                    wrong.push(format!(
                        "{}:{start}: {} lines",
                        source.path.display(),
                        number - start + 1
                    ));
                }
                open = None;
            } else if open.is_some_and(|(start, at)| {
                let ends = line.ends_with('}') || line.ends_with(';');
                // A declaration in a trait may take several lines, and has no body.
                let is_declaration = indent == at && line.ends_with(';');
                (start == number && ends) || is_declaration
            }) {
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_debugging_code_or_todo_remains() {
    let mut wrong = Vec::new();
    for source in files_in(&["src", "protocol-tests", "examples"]) {
        if source.path.ends_with("tidy/main.rs") {
            continue;
        }
        for (line, text) in code(&source.text) {
            if let Some(word) = BANNED.iter().find(|word| text.contains(**word)) {
                wrong.push(format!("{}:{line}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
