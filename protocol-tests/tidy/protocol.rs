//! The specification of the protocol agrees with the tree: every numbered case has a test, every
//! section that code cites exists, and the printed signatures are right.

use crate::root;
use campanile::signature::Signer;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const PROTOCOL: &str = "docs/protocol.md";
/// Folders and files that cite documents or contain tests.
const ROOTS: &[&str] = &["src", "protocol-tests", "examples", "config.toml", "Cargo.toml"];
const EXTENSIONS: &[&str] = &["rs", "mjs", "py", "toml", "lua", "json"];
/// Names of documents that are not in the repository.
const ELSEWHERE: &[&str] = &["PROTOCOL", "DESIGN", "ENGINE", "RESUME", "STYLE", "VOCABULARY"];

struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

fn texts() -> Vec<Text> {
    let mut found = Vec::new();
    for name in ROOTS {
        collect(&root().join(name), &mut found);
    }
    found
}

fn collect(path: &Path, found: &mut Vec<Text>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name == "node_modules" || name == "package-lock.json" || name.starts_with('.') {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of the repository") {
            collect(&entry.expect("an entry of the folder").path(), found);
        }
    } else if path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known)) {
        let text = fs::read_to_string(path).expect("a file of the repository");
        let path = path.strip_prefix(root()).expect("below the root").to_owned();
        found.push(Text { path, text });
    }
}

/// The names of the tests in a file: functions in Rust and Python, titles in JavaScript.
fn tests_in(file: &Text) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in file.text.lines().map(str::trim_start) {
        if file.is("rs") {
            let function = line.split_once("fn ").filter(|_| !line.starts_with("//"));
            if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, rest)) = function {
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                names.extend(is_test.then(|| name.to_owned()));
                is_test = false;
            }
        } else if file.is("py") {
            let function = line.strip_prefix("def test_").and_then(|rest| rest.split_once('('));
            names.extend(function.map(|(name, _)| format!("test_{name}")));
        } else if file.is("mjs") {
            let title = line.strip_prefix("test('").and_then(|rest| rest.split_once("', "));
            names.extend(title.map(|(title, _)| title.replace(r"\'", "'")));
        }
    }
    names
}

/// The number of a case at the beginning of `text`, such as `C01`.
fn case_id(text: &str) -> Option<String> {
    let id = text.get(..3)?.to_ascii_uppercase();
    let mut bytes = id.bytes();
    let is_id = bytes.next().is_some_and(|letter| letter.is_ascii_uppercase())
        && bytes.all(|digit| digit.is_ascii_digit());
    is_id.then_some(id)
}

/// The cases that a test's name begins with: `w01_w03_…` is about two.
fn cases_of(test: &str) -> Vec<String> {
    let words = test.split('_').take_while(|word| word.len() == 3);
    words.map_while(case_id).collect()
}

/// The cases of the protocol, each with the tests that it names.
fn cases(markdown: &str) -> BTreeMap<String, Vec<String>> {
    let rows = markdown.lines().filter_map(|line| {
        let (id, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
        let id = case_id(id).filter(|_| id.len() == 3)?;
        let (_, tests) = rest.strip_suffix(" |")?.rsplit_once(" | ")?;
        Some((id, tests.split('`').skip(1).step_by(2).map(str::to_owned).collect()))
    });
    rows.collect()
}

/// The anchors that GitHub gives the headings of a document.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in markdown.lines() {
        is_code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#').strip_prefix(' ');
        let Some(heading) = heading.filter(|_| line.starts_with('#') && !is_code) else { continue };
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        let anchor = kept.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "");
        let before = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
    }
    anchors
}

/// The documents that a line cites, with their anchors: `docs/a.md#b`.
fn cited(line: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-./#".contains(c);
    let mut cited = Vec::new();
    for (at, _) in line.match_indices("docs/") {
        let is_whole = !line[..at].ends_with(|c: char| is_name(c));
        let name: String = line[at..].chars().take_while(|c| is_name(*c)).collect();
        let name = name.trim_end_matches(['.', '#']).to_owned();
        cited.extend((is_whole && name.contains(".md")).then_some(name));
    }
    cited
}

/// Whether a citation names a document and one of its headings.
fn resolves(citation: &str) -> bool {
    let (file, anchor) = citation.split_once('#').unwrap_or((citation, ""));
    let path = root().join(file);
    fs::read_to_string(path)
        .is_ok_and(|markdown| anchor.is_empty() || anchors(&markdown).contains(anchor))
}

fn protocol() -> String {
    fs::read_to_string(root().join(PROTOCOL)).expect("the specification of the protocol")
}

#[test]
fn every_case_names_tests_that_exist() {
    let tests: BTreeSet<String> = texts().iter().flat_map(tests_in).collect();
    let cases = cases(&protocol());
    assert!(100 < cases.len(), "only {} cases were read", cases.len());
    let mut wrong = Vec::new();
    for (id, named) in &cases {
        if named.is_empty() {
            wrong.push(format!("{PROTOCOL}: {id} names no test"));
        }
        for name in named.iter().filter(|name| !tests.contains(*name)) {
            let own: Vec<&String> =
                tests.iter().filter(|test| cases_of(test).contains(id)).collect();
            wrong
                .push(format!("{PROTOCOL}: {id} names {name}, which is no test; its own: {own:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_numbered_test_is_about_a_case() {
    let cases = cases(&protocol());
    let mut wrong = Vec::new();
    for file in texts() {
        for test in tests_in(&file) {
            for id in cases_of(&test).iter().filter(|id| !cases.contains_key(*id)) {
                wrong.push(format!("{}: {test}: {PROTOCOL} has no {id}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_cited_section_exists() {
    let mut wrong = Vec::new();
    for file in texts().iter().filter(|file| !file.path.ends_with("tidy/protocol.rs")) {
        for (at, line) in file.text.lines().enumerate() {
            for citation in cited(line).iter().filter(|citation| !resolves(citation)) {
                wrong.push(format!("{}:{}: no {citation}", file.path.display(), at + 1));
            }
            let is_comment =
                ["//", "#", "--"].iter().any(|mark| line.trim_start().starts_with(mark));
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let is_elsewhere = words.any(|word| ELSEWHERE.contains(&word));
            let is_section =
                line.split('§').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if is_section || is_comment && is_elsewhere {
                wrong.push(format!("{}:{}: cites no document here", file.path.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documented_signatures_are_right() {
    let markdown = protocol();
    let (_, section) = markdown.split_once("### Signature vectors").expect("the vectors");
    let (section, _) = section.split_once("\n## ").expect("a section behind them");
    let signer = Signer::new("7ad3773142a6692b25b8");
    let mut rows = 0;
    for row in section.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = row.split('`').collect();
        let &[name, string, _, signature, _] = cells.as_slice() else { continue };
        // Only those of requests contain line feeds.
        let is_request = name.starts_with("| H-");
        let string = if is_request { string.replace(r"\n", "\n") } else { string.to_owned() };
        assert_eq!(signer.sign(&string), signature, "{row}");
        rows += 1;
    }
    assert!(5 < rows, "only {rows} vectors were read");
}

#[test]
fn documents_and_tests_are_read_in_every_form() {
    let text = |name: &str, text: &str| Text { path: name.into(), text: text.into() };
    let rust = "#[test]\nfn a1() {}\nfn helper() {}\n    #[tokio::test]\n    async fn b2<T>() {}\n";
    assert_eq!(tests_in(&text("a.rs", rust)), ["a1", "b2"]);
    assert_eq!(
        tests_in(&text("a.py", "    def test_it(self):\n    def helper(self):")),
        ["test_it"]
    );
    assert_eq!(tests_in(&text("a.mjs", "test('it\\'s', async (a) => {")), ["it's"]);
    assert_eq!(cases_of("w01_w03_both"), ["W01", "W03"]);
    assert!(cases_of("a_b01_c").is_empty() && cases_of("max_connections").is_empty());
    let rows = "| case | tests |\n|---|---|\n| C01 | `x` | must | `one`, `two` |\n";
    assert_eq!(cases(rows), BTreeMap::from([("C01".into(), vec!["one".into(), "two".into()])]));
    let markdown = "# One: `two` & three\n```\n# no heading\n```\n## A\n### A\n#no heading\n";
    assert_eq!(anchors(markdown), ["a", "a-1", "one-two--three"].map(str::to_owned).into());
    let line = "https://x.test/docs/f.md (docs/g.md#h), `docs/i.md`. docs/j.md.";
    assert_eq!(cited(line), ["docs/g.md#h", "docs/i.md", "docs/j.md"]);
    assert!(resolves("docs/protocol.md#close-codes") && resolves("docs/protocol.md"));
    assert!(!resolves("docs/protocol.md#no-such-heading") && !resolves("docs/none.md"));
}
