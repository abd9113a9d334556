//! Tests of the script that runs all suites: `protocol-tests/run`.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::harness::Directory;

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/run"));
    command
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn an_unknown_suite_exits_2_and_lists_the_suites() {
    for arguments in [&["nope"][..], &["lint", "nope"], &[""], &["--nope"]] {
        let output = script().args(arguments).output().expect("there is a shell");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("lint rust clients browser python proxies attacks cluster mutants"),
            "{said}"
        );
    }
    let output = script().arg("--help").output().expect("there is a shell");
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("suites: lint rust"), "{}", said(&output));
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
        assert_eq!(output.status.code(), Some(1), "{text:?}: {}", said(&output));
        assert!(said(&output).contains("failed: attacks"), "{text:?}: {}", said(&output));
    }
    for text in [
        "Ran 4 tests in 0.1s\\n\\nOK (skipped=4)",
        "Ran 4 tests in 0.1s\\n\\nFAILED (failures=1, errors=2)",
        "test result: FAILED. 3 passed; 1 failed; 0 ignored;",
    ] {
        let output = run_attacks(text);
        assert_eq!(output.status.code(), Some(1), "{text:?}: {}", said(&output));
    }
    for text in [
        "test result: ok. 3 passed; 0 failed; 0 ignored;",
        "Ran 4 tests in 0.1s\\n\\nOK (skipped=3)",
    ] {
        let output = run_attacks(text);
        assert_eq!(output.status.code(), Some(0), "{text:?}: {}", said(&output));
    }
    let said =
        said(&run_attacks("Ran 9 tests in 0.1s\\n\\nFAILED (failures=1, errors=2, skipped=3)"));
    assert!(said.contains("5 passed, 3 failed"), "2 builds and 3 tests: {said}");
}
