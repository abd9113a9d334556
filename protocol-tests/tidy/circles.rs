//! Modules of a folder import one another in one direction only: there are no circles.
//!
//! A folder's own file (`mod.rs`, or the file with the folder's name) joins its parts, and is not
//! compared with them. A name that such a file imports from a part counts as that of the part.
//! Tests may import anything.

use crate::{root, rust_files};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Circles that are left: the folder, two modules that import one another, and the reason.
const EXCEPTIONS: &[(&str, [&str; 2], &str)] = &[];

/// A module by its path from the root of the crate.
type Path = Vec<String>;

/// The modules, each with its code without comments, texts and tests.
type Modules = BTreeMap<Path, String>;

/// The names that modules import from their parts, with the part and the path there. Other parts
/// can use them, even if they are private.
type Imported = BTreeMap<(Path, String), (Path, Path)>;

/// A path of a `use` declaration, and the name that it gives to what is there.
struct Import {
    path: Path,
    name: String,
}

fn modules() -> Modules {
    let source = root().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut modules = Modules::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a file of the repository");
        let inner = file.strip_prefix(&source).expect("below the root").with_extension("");
        let mut path: Path = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
            path.pop();
        }
        modules.insert(path, code(&text));
    }
    without_tests(modules)
}

/// Removes comments and the content of texts.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        code.push_str(&rest[..at]);
        let found = &rest[at..];
        let hashes = code.len() - code.trim_end_matches('#').len();
        let length = if found.starts_with("//") {
            found.find('\n').unwrap_or(found.len())
        } else if found.starts_with("/*") {
            found.find("*/").map_or(found.len(), |end| end + 2)
        } else if found.starts_with('/') || code.ends_with('\'') {
            code.push_str(&found[..1]);
            1
        } else if code[..code.len() - hashes].ends_with('r') {
            let end = format!("\"{}", "#".repeat(hashes));
            found[1..].find(&end).map_or(found.len(), |at| 1 + at + end.len())
        } else {
            text_length(found)
        };
        rest = &found[length..];
    }
    code + rest
}

/// The length of a quoted text.
fn text_length(quoted: &str) -> usize {
    let mut is_escaped = false;
    for (at, letter) in quoted.char_indices().skip(1) {
        match letter {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = letter == '\\' && !is_escaped,
        }
    }
    quoted.len()
}

/// Removes the modules that are compiled for tests only, and those in them.
fn without_tests(mut modules: Modules) -> Modules {
    let mut tests = BTreeSet::new();
    for (path, code) in &mut modules {
        while let Some(at) = code.find("#[cfg(test)]") {
            let item = code[at + "#[cfg(test)]".len()..].trim_start().to_owned();
            let line = item.lines().next().unwrap_or_default();
            let named = line.split_once("mod ").map(|(_, name)| name.trim_end_matches([';', '{']));
            if let Some(name) = named.filter(|_| line.ends_with(';')) {
                tests.insert([&path[..], &[name.trim().to_owned()]].concat());
            }
            // An item ends with its first line, or with the brace in the column of its start.
            let indent = code[..at].chars().rev().take_while(|letter| *letter == ' ').count();
            let end = format!("\n{}}}", " ".repeat(indent));
            let length = if line.ends_with('{') {
                item.find(&end).map_or(item.len(), |found| found + end.len())
            } else {
                line.len()
            };
            *code = format!("{}{}", &code[..at], &item[length..]);
        }
    }
    modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
    modules
}

/// The words of a path.
fn words(path: &str) -> Path {
    path.split("::").map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The imports of `a::{b, c::{self as d, e}}`.
fn expanded(tree: &str) -> Vec<Import> {
    let Some((prefix, list)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        return vec![Import { path: words(path), name: alias.trim().to_owned() }];
    };
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut items) = (0, vec![String::new()]);
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (letter, items.last_mut()) {
            (',', _) if depth == 0 => items.push(String::new()),
            (_, Some(item)) => item.push(letter),
            (_, None) => {}
        }
    }
    let inner = items.iter().filter(|item| !item.trim().is_empty()).flat_map(|item| expanded(item));
    inner
        .map(|Import { path, name }| Import { path: [words(prefix), path].concat(), name })
        .collect()
}

/// The imports of all `use` declarations.
fn declared(code: &str) -> Vec<Import> {
    let starts = code
        .match_indices("use ")
        .filter(|(at, _)| code[..*at].chars().next_back().is_none_or(char::is_whitespace));
    let trees = starts.filter_map(|(at, word)| code[at + word.len()..].split_once(';'));
    trees.flat_map(|(tree, _)| expanded(tree.trim())).collect()
}

/// All paths that a module names.
fn named(code: &str) -> Vec<Path> {
    let mut named: Vec<Path> = declared(code).into_iter().map(|import| import.path).collect();
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    for word in code.split(|letter: char| !is_path(letter)) {
        let word = word.trim_matches(':');
        if word.contains("::") {
            named.push(words(word));
        }
    }
    named
}

fn imported(modules: &Modules) -> Imported {
    let mut all = Imported::new();
    for (path, code) in modules {
        for Import { path: named, name } in declared(code) {
            let from_here = [&["crate".to_owned()], &path[..]].concat();
            let named = named.strip_prefix(&from_here[..]).unwrap_or(&named);
            let named = named.strip_prefix(&["self".to_owned()]).unwrap_or(named);
            let Some((part, rest)) = named.split_first() else { continue };
            let part = [&path[..], std::slice::from_ref(part)].concat();
            let last = named.iter().rfind(|word| *word != "self");
            if let Some(last) = last.filter(|_| modules.contains_key(&part)) {
                let name = if name.is_empty() { last.clone() } else { name };
                all.insert((path.clone(), name), (part, rest.to_vec()));
            }
        }
    }
    all
}

/// The module that has what `named` refers to in the module `from`; `None` outside of the crate.
fn resolve(modules: &Modules, imported: &Imported, from: &Path, named: &[String]) -> Option<Path> {
    let mut at = from.clone();
    let mut rest = named;
    match rest.first()?.as_str() {
        "crate" => at.clear(),
        "super" | "self" => {}
        child => {
            let part = [&from[..], &[child.to_owned()]].concat();
            modules.contains_key(&part).then_some(())?;
        }
    }
    while let Some(word @ ("crate" | "super" | "self")) = rest.first().map(String::as_str) {
        if word == "super" {
            at.pop();
        }
        rest = &rest[1..];
    }
    while let Some(word) = rest.first() {
        let part = [&at[..], std::slice::from_ref(word)].concat();
        if !modules.contains_key(&part) {
            break;
        }
        (at, rest) = (part, &rest[1..]);
    }
    let import = rest.first().and_then(|name| imported.get(&(at.clone(), name.clone())));
    match import {
        Some((part, rest)) if !rest.is_empty() => {
            let inner = [&["self".to_owned()], &rest[..]].concat();
            resolve(modules, imported, part, &inner)
        }
        Some(_) | None => Some(at),
    }
}

/// For each folder, which of its modules import which, with an example.
fn imports(modules: &Modules) -> BTreeMap<Path, BTreeMap<(String, String), String>> {
    let imported = imported(modules);
    let mut imports: BTreeMap<Path, BTreeMap<(String, String), String>> = BTreeMap::new();
    for (from, code) in modules {
        for named in named(code) {
            let Some(to) = resolve(modules, &imported, from, &named) else { continue };
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(common), to.get(common)) {
                let example = format!("{} imports {}", from.join("::"), to.join("::"));
                let folder = imports.entry(from[..common].to_vec()).or_default();
                folder.insert((one.clone(), other.clone()), example);
            }
        }
    }
    imports
}

/// The imports that are part of a circle: the folder, the two modules, and an example.
fn circles(modules: &Modules, skipped: &[(&str, [&str; 2], &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (folder, mut edges) in imports(modules) {
        for (of, pair, _) in skipped.iter().filter(|(of, ..)| *of == folder.join("/")) {
            let [one, other] = pair.map(str::to_owned);
            let forth = edges.remove(&(one.clone(), other.clone()));
            if edges.remove(&(other, one)).is_none() || forth.is_none() {
                wrong.push(format!("{of}: {pair:?} is no circle any more: remove the exception"));
            }
        }
        let reached = |from: &String| {
            let mut reached = BTreeSet::from([from.clone()]);
            loop {
                let next = edges.keys().filter(|(one, _)| reached.contains(one));
                let next: BTreeSet<String> = next.map(|(_, other)| other.clone()).collect();
                let before = reached.len();
                reached.extend(next);
                if reached.len() == before {
                    return reached;
                }
            }
        };
        for ((one, other), example) in &edges {
            if reached(other).contains(one) {
                wrong.push(format!("{example}, and back by other modules"));
            }
        }
    }
    wrong
}

#[test]
fn modules_do_not_import_one_another_in_circles() {
    let modules = modules();
    assert!(200 < modules.len(), "only {} modules were read", modules.len());
    let wrong = circles(&modules, EXCEPTIONS);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn made(files: &[(&str, &str)]) -> Modules {
    let path = |name: &str| -> Path { name.split('/').map(str::to_owned).collect() };
    without_tests(files.iter().map(|(name, text)| (path(name), code(text))).collect())
}

#[test]
fn circles_are_found_in_every_form_of_use() {
    let one_way = ("a/two", "struct Two;");
    for (forth, back) in [
        ("use super::two::Two;", "use super::one::One;"),
        ("use super::{two::{Two, Other}, three};", "use crate::a::one;"),
        ("fn f(x: super::two::Two) {}", "use crate::{b, a::{b::C, one::One as Uno}};"),
        ("use super::Two;", "fn f() -> Vec<crate::a::one::One> {}"),
        ("use crate::a::Two;", "use super::one::{self, One};"),
        ("fn f(x: super::Two) {}", "use crate::a::one as uno;"),
        ("use super::Deux;", "use super::{\n    one::{self as uno, One as Uno},\n};"),
        ("use super::{Drei, three};", "use super::one::*;"),
        ("use super::Vier;", "/* \" */ use super::one::One; /* \" */"),
        ("use super::Two;", "const A: &str = r\"\\\"; use super::one::One; const B: &str = \"\";"),
        ("use super::Two;", "const A: &str = r##\" \"# \"##; use super::one::One;"),
    ] {
        let uses =
            "pub(super) use two::Two;\nuse two::{self, Two as Deux};\npub use self::two::x::Drei;
            use crate::a::two::{Vier};\n";
        let own = format!("mod one; mod two; mod three;\n{uses}");
        let a = ("a", &own[..]);
        let files = [a, ("a/one", forth), ("a/two", back), ("a/three", "")];
        assert_eq!(circles(&made(&files), &[]).len(), 2, "{forth} {back}");
        let files = [a, ("a/one", forth), one_way, ("a/three", "")];
        assert!(circles(&made(&files), &[]).is_empty(), "{forth}");
    }
    let folders = [
        ("a", ""),
        ("a/b", ""),
        ("a/b/c", "use crate::a::d::e::E;"),
        ("a/d", ""),
        ("a/d/e", "use crate::a::b;"),
    ];
    assert_eq!(circles(&made(&folders), &[]).len(), 2, "by files of other folders");
    let three = [("a", "use super::b;"), ("b", "use super::c;"), ("c", "use crate::a;")];
    assert_eq!(circles(&made(&three), &[]).len(), 3, "over several modules");
}

#[test]
fn comments_texts_tests_and_a_folders_own_file_make_no_circle() {
    for text in [
        "// use super::one::One;\n",
        "const A: &str = \"super::one::One \\\" super::one\"; // super::one::One",
        "const A: &str = r#\"\"super::one::One\"#;",
        "const A: &str = r##\"\"#super::one::One\"##; /* super::one::One */",
        "const A: &str = r\"\\\"; // super::one::One",
        "const A: char = '\"'; // super::one::One \"",
        "#[cfg(test)]\nmod tests {\n    use super::super::one::One;\n}\n",
        "use std::one::One;",
        "#[cfg(test)]\nmod tests;\n",
        "use super::Three;",
    ] {
        let files = [
            ("a", "mod one; mod two; use two::Two; use one::One; struct Three;"),
            ("a/one", "use super::two::Two;"),
            ("a/two", text),
            ("a/two/tests", if text.contains("mod tests;") { "use crate::a::one;" } else { "" }),
        ];
        assert!(circles(&made(&files), &[]).is_empty(), "{text}");
    }
}

#[test]
fn an_exception_is_for_one_circle_and_as_long_as_there_is_one() {
    let circle = [("a", "use super::b;"), ("b", "use super::{a, c};"), ("c", "use super::b;")];
    let of = |pairs: &[[&'static str; 2]]| {
        let exceptions: Vec<_> = pairs.iter().map(|pair| ("", *pair, "a reason")).collect();
        circles(&made(&circle), &exceptions)
    };
    assert_eq!(of(&[["a", "b"]]).len(), 2, "the other circle");
    assert!(of(&[["a", "b"], ["c", "b"]]).is_empty());
    assert_eq!(of(&[["a", "b"], ["c", "b"], ["a", "c"]]).len(), 1, "there is none");
}
