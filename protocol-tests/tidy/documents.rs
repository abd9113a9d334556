//! Markdown files: links lead somewhere, and paths and functions that are named exist.

use super::{LAYERS, root};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Folders whose files documents name by their path from the root.
const FOLDERS: [&str; 9] = [
    "src/",
    "clients/",
    "docs/",
    "protocol-tests/",
    "examples/",
    "fuzz/",
    "deploy/",
    "packaging/",
    "integrations/",
];
/// The README is for readers who see the project for the first time.
const README_LINES_MAX: usize = 150;
/// The folder of images in `docs`.
const IMAGES: &str = "images";
const ARCHITECTURE: &str = "docs/architecture.md";

struct Document {
    path: PathBuf,
    text: String,
}

/// All Markdown files of the repository.
fn documents() -> Vec<Document> {
    let mut folders = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_ours = !["target", "node_modules", "vendor", ".git"].contains(&name.as_str());
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("a file of the repository");
                found.push(Document { path, text });
            }
        }
    }
    found
}

/// Lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Texts between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of links and pictures.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(file: &Path, fragment: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    prose(&text).any(|(_, line)| line.starts_with('#') && anchor(line) == fragment)
}

fn place(document: &Document, line: usize) -> String {
    let path = document.path.strip_prefix(root()).expect("below the root");
    format!("{}:{line}", path.display())
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for document in documents() {
        let folder = document.path.parent().expect("a file has a folder");
        for (number, line) in prose(&document.text) {
            for link in links(line).filter(|link| !link.contains("://")) {
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let file = if file.is_empty() { document.path.clone() } else { folder.join(file) };
                if !file.exists() || !fragment.is_empty() && !has_anchor(&file, fragment) {
                    wrong.push(format!("{}: {link}", place(&document, number)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn paths_that_documents_name_exist() {
    let mut wrong = Vec::new();
    for document in documents() {
        for (number, line) in prose(&document.text) {
            let paths = quoted(line).filter_map(|text| text.split([' ', ':']).next());
            let paths = paths.filter(|path| {
                FOLDERS.iter().any(|folder| path.starts_with(folder)) && !path.contains('*')
            });
            let missing = paths.filter(|path| !root().join(path).exists());
            wrong.extend(missing.map(|path| format!("{}: {path}", place(&document, number))));
        }
    }
    assert!(wrong.is_empty(), "these paths do not exist:\n{}", wrong.join("\n"));
}

/// The rows of the walks: line number, file, functions.
fn steps(text: &str) -> Vec<(usize, String, Vec<&str>)> {
    let rows = prose(text).filter_map(|(number, line)| {
        match line.split('|').map(str::trim).collect::<Vec<_>>()[..] {
            ["", _, file, functions, ""] => {
                let name = file.strip_prefix('`')?.strip_suffix(".rs`")?;
                let is_one = !name.contains('`');
                is_one.then(|| (number, format!("{name}.rs"), quoted(functions).collect()))
            }
            _ => None,
        }
    });
    rows.collect()
}

#[test]
fn the_walks_name_functions_of_their_files() {
    let text = fs::read_to_string(root().join(ARCHITECTURE)).expect("a file of the repository");
    let steps: Vec<_> = steps(&text).into_iter().filter(|(.., named)| !named.is_empty()).collect();
    assert!(20 < steps.len(), "the walks have {} steps", steps.len());
    let mut wrong = Vec::new();
    for (number, file, functions) in steps {
        let source = fs::read_to_string(root().join(&file)).unwrap_or_default();
        let has = |name: &str| {
            ["(", "<"].iter().any(|after| source.contains(&format!("fn {name}{after}")))
        };
        let missing = functions.into_iter().filter(|name| !has(name));
        wrong.extend(missing.map(|name| format!("{ARCHITECTURE}:{number}: {file} has no {name}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_has_every_module() {
    let text = fs::read_to_string(root().join(ARCHITECTURE)).expect("a file of the repository");
    let named: BTreeSet<&str> = prose(&text).flat_map(|(_, line)| quoted(line)).collect();
    let entries = fs::read_dir(root().join("src")).expect("a folder of the repository");
    let missing: Vec<String> = entries
        .map(|entry| entry.expect("an entry of the folder").file_name())
        .map(|name| format!("src/{}", name.to_string_lossy()))
        .filter(|path| !named.contains(path.as_str()))
        .collect();
    assert!(missing.is_empty(), "{ARCHITECTURE} lacks {missing:?}");
}

#[test]
fn the_map_has_the_layer_of_each_module() {
    let text = fs::read_to_string(root().join(ARCHITECTURE)).expect("a file of the repository");
    let mut drawn = BTreeSet::new();
    for (_, line) in prose(&text) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let layer = cells.get(1).and_then(|cell| cell.parse::<u8>().ok());
        let (Some(layer), Some(modules)) = (layer, cells.get(2)) else { continue };
        let modules = quoted(modules).filter_map(|path| path.strip_prefix("src/"));
        drawn.extend(modules.map(|module| (module.trim_end_matches(".rs"), layer)));
    }
    assert_eq!(drawn, LAYERS.iter().copied().collect());
}

/// The files in a folder and in those below it.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the repository");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_index_has_every_document() {
    let folder = root().join("docs");
    let text = fs::read_to_string(folder.join("README.md")).expect("the index");
    let named: BTreeSet<&str> = prose(&text).flat_map(|(_, line)| links(line)).collect();
    let missing: Vec<String> = files_below(&folder)
        .iter()
        .map(|path| path.strip_prefix(&folder).expect("below the folder").display().to_string())
        .filter(|name| name != "README.md" && !name.starts_with(IMAGES))
        .filter(|name| !named.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/README.md lacks {missing:?}");
}

#[test]
fn every_image_is_shown_by_a_document() {
    let folder = root().join("docs");
    let text: String = documents().iter().map(|document| document.text.as_str()).collect();
    let unused: Vec<String> = files_below(&folder.join(IMAGES))
        .iter()
        .map(|path| path.strip_prefix(&folder).expect("below the folder").display().to_string())
        .filter(|name| !text.contains(&format!("{name}\"")) && !text.contains(&format!("{name})")))
        .collect();
    assert!(unused.is_empty(), "no document shows {unused:?}");
}

#[test]
fn the_example_of_a_test_is_one_that_runs() {
    let read =
        |name: &str| fs::read_to_string(root().join(name)).expect("a file of the repository");
    let tests = read("protocol-tests/conformance/delivery.rs");
    for document in ["CONTRIBUTING.md", "protocol-tests/README.md"] {
        let text = read(document);
        let (_, example) = text.split_once("```rust\n").expect("a Rust example");
        let (example, _) = example.split_once("```").expect("an end of the example");
        assert!(tests.contains(example), "delivery.rs lacks the example of {document}");
    }
}

#[test]
fn the_readme_is_short() {
    let text = fs::read_to_string(root().join("README.md")).expect("a file of the repository");
    let lines = text.lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "README.md has {lines} lines, at most {README_LINES_MAX} are allowed"
    );
}

#[test]
fn links_anchors_and_code_are_parsed() {
    let text = "[a](b.md#c) `src/x.rs`\n```sh\n[d](e)\n```\n![f](g.png)";
    let lines: Vec<&str> = prose(text).map(|(_, line)| line).collect();
    let all: Vec<&str> = lines.iter().flat_map(|line| links(line)).collect();
    assert_eq!(all, ["b.md#c", "g.png"]);
    assert_eq!(quoted(lines[0]).collect::<Vec<_>>(), ["src/x.rs"]);
    assert_eq!(
        anchor("## Start the next process first: `reuse_port`"),
        "start-the-next-process-first-reuse_port"
    );
    assert_eq!(anchor("## 1. What's new?"), "1-whats-new");
}
