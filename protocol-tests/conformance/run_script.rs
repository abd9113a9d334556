//! Tests of the script that runs all suites: `protocol-tests/run`.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use kit::{Directory, root};

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("protocol-tests/run"));
    command
}

fn output_text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn an_unknown_suite_exits_2_and_lists_the_suites() {
    for arguments in [&["nope"][..], &["lint", "nope"], &[""], &["--nope"]] {
        let output = script().args(arguments).output().expect("there is a shell");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", output_text(&output));
        let output_text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output_text.contains(
                "lint rust clients resume browser python api proxies laravel doctor deploy attacks databases cluster mutants"
            ),
            "{output_text}"
        );
    }
    let output = script().arg("--help").output().expect("there is a shell");
    assert_eq!(output.status.code(), Some(0));
    assert!(output_text(&output).contains("suites: lint rust"), "{}", output_text(&output));
}

#[test]
fn help_says_how_long_each_suite_takes_and_how_much_disk_it_needs() {
    let output = script().arg("--help").output().expect("there is a shell");
    let text = output_text(&output);
    let rows: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let names = rows.iter().find(|row| row.first() == Some(&"suites:")).expect("the suites");
    for name in names[1..].iter().take_while(|word| !word.starts_with('(')) {
        let row = rows.iter().find(|row| row.first() == Some(name));
        let row = row.unwrap_or_else(|| panic!("no row of {name}: {text}"));
        for number in &row[1..3] {
            assert!(number.parse::<u32>().is_ok_and(|number| 0 < number), "{name}: {row:?}");
        }
        assert!(3 < row.len(), "{name} has contents: {row:?}");
    }
}

#[test]
fn a_run_says_beforehand_how_long_it_takes() {
    let output = run_attacks("test result: ok. 3 passed; 0 failed; 0 ignored;");
    let text = output_text(&output);
    let (before, _) = text.split_once("== ").expect("headings");
    assert!(before.starts_with("suites: attacks\nabout 2 minutes"), "{before}");
    assert!(before.contains("GB are free"), "{before}");
}

/// macOS has Bash 3.2. Among later constructs are those in the list.
#[test]
fn the_script_needs_no_later_bash_than_3_2() {
    let path = root().join("protocol-tests/run");
    let text = std::fs::read_to_string(path).expect("a file of the repository");
    let later = [
        "declare -A",
        "local -A",
        "local -n",
        "declare -n",
        "mapfile",
        "readarray",
        "coproc",
        "globstar",
        "|&",
        "&>>",
        ",,}",
        "^^}",
        "@Q}",
        "wait -n",
        "EPOCHSECONDS",
        "printf -v",
    ];
    for (at, line) in text.lines().enumerate() {
        for construct in later {
            assert!(!line.contains(construct), "protocol-tests/run:{}: {construct}", at + 1);
        }
        // With `set -u`, it fails on an empty array.
        let expansions = line.matches("[@]}").count().saturating_sub(line.matches("${#").count());
        let is_checked = ["suites[@]", "failures[@]", "missing[@]"].iter();
        let known: usize = is_checked.map(|name| line.matches(name).count()).sum();
        assert!(expansions <= known, "protocol-tests/run:{}: {line}", at + 1);
    }
}

#[test]
fn the_script_runs_each_suite_of_the_manifests() {
    let read =
        |path: &str| std::fs::read_to_string(root().join(path)).expect("a file of the repository");
    let script = read("protocol-tests/run");
    let mut suites = 0;
    for manifest in ["Cargo.toml", "protocol-tests/Cargo.toml"] {
        for part in read(manifest).split("[[test]]").skip(1) {
            let name = part.split('"').nth(1).expect("a suite has a name");
            let is_run = script.lines().any(|line| {
                let is_check = line.contains("clippy") || line.contains("--no-run");
                let words = || line.split([' ', ';']);
                let pairs = words().zip(words().skip(1));
                !is_check && pairs.into_iter().any(|pair| pair == ("--test", name))
            });
            assert!(is_run, "{name} is not run");
            suites += 1;
        }
    }
    assert!(6 <= suites, "{suites}");
}

/// Runs a suite with a `cargo` that prints `text` for a test run, and succeeds.
fn run_attacks(text: &str) -> Output {
    let directory = Directory::new();
    let cargo = directory.write(
        "cargo",
        &format!("#!/bin/sh\ncase \"$*\" in *nocapture*) printf '%b\\n' '{text}' ;; esac\n"),
    );
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(cargo, executable).expect("a file of our own");
    let path = format!(
        "{}:{}",
        directory.path().display(),
        std::env::var("PATH").expect("there is a PATH")
    );
    script().arg("attacks").env("PATH", path).output().expect("there is a shell")
}

#[test]
fn a_suite_without_passed_tests_fails() {
    for text in ["", "test result: ok. 0 passed; 0 failed; 3 ignored;", "OK (skipped=4)"] {
        let output = run_attacks(text);
        assert_eq!(output.status.code(), Some(1), "{text:?}: {}", output_text(&output));
        assert!(
            output_text(&output).contains("failed: attacks"),
            "{text:?}: {}",
            output_text(&output)
        );
    }
    for text in [
        "Ran 4 tests in 0.1s\\n\\nOK (skipped=4)",
        "Ran 4 tests in 0.1s\\n\\nFAILED (failures=1, errors=2)",
        "Tests: 9, Assertions: 8, Errors: 2, Failures: 1.",
        "OK (0 tests, 0 assertions)",
        "test result: FAILED. 3 passed; 1 failed; 0 ignored;",
    ] {
        let output = run_attacks(text);
        assert_eq!(output.status.code(), Some(1), "{text:?}: {}", output_text(&output));
    }
    for text in [
        "test result: ok. 3 passed; 0 failed; 0 ignored;",
        "Ran 4 tests in 0.1s\\n\\nOK (skipped=3)",
        "OK (3 tests, 5 assertions)",
    ] {
        let output = run_attacks(text);
        assert_eq!(output.status.code(), Some(0), "{text:?}: {}", output_text(&output));
    }
    let output_text = output_text(&run_attacks(
        "Ran 9 tests in 0.1s\\n\\nFAILED (failures=1, errors=2, skipped=3)",
    ));
    assert!(output_text.contains("5 passed, 3 failed"), "2 builds and 3 tests: {output_text}");
}
