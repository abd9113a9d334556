//! Tests of the kit: it must fail tests in which a server panicked or ended unexpectedly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use kit::{Directory, PROGRAM, Process, eventually, program};

/// Set in the process that repeats a check.
const AGAIN: &str = "CAMPANILE_TESTS_AGAIN";

/// The profile and the target directory are those of this test, whatever the environment says.
#[test]
fn the_program_is_built_with_the_profile_of_the_test() {
    if std::env::var_os(PROGRAM).is_some() && std::env::var_os(AGAIN).is_none() {
        // Another program is tested: the check is made without the variable.
        assert!(checked_again(&[]).status.success());
        return;
    }
    let test = std::env::current_exe().expect("this test");
    assert_eq!(program().parent(), test.ancestors().nth(2), "{}", program().display());
    assert_eq!(program().file_name(), Some("campanile".as_ref()));
}

/// Runs the check above in another process, with these variables.
fn checked_again(variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "kit_checks::the_program_is_built_with_the_profile_of_the_test"]);
    command.env_remove(PROGRAM).env(AGAIN, "1");
    command.envs(variables.iter().copied()).output().expect("this test can be started")
}

#[test]
fn a_variable_names_another_program() {
    let directory = Directory::new();
    let other = directory.path().join("another");
    let output = checked_again(&[(PROGRAM, other.to_str().expect("a name in UTF-8"))]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains(other.to_str().unwrap()), "{text}");
}

/// Although a program is there: it may be an old one.
#[test]
fn a_program_that_cannot_be_built_fails_the_test() {
    let output = checked_again(&[("CARGO", "false")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains("exit status: 1"), "{text}");
}

/// Drops a process, and returns the message with which the test fails.
fn failure_of(process: Process) -> Option<String> {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(process)));
    dropped.err().map(|panic| *panic.downcast::<String>().expect("a message"))
}

/// A shell that runs `script`, and then waits to be killed, unless `script` ends it.
async fn shell(script: &str) -> Process {
    let script = format!("{script}\necho ready\nexec cat");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(std::process::Stdio::piped());
    let mut process = Process::from_command(&mut command);
    process.line("the line of the script", |line| line == "ready").await;
    process
}

/// Waits until a process has ended, without requesting its exit code.
async fn ends(process: &Process) {
    let status = format!("/proc/{}/stat", process.id());
    eventually("the process has ended", async || {
        std::fs::read_to_string(&status).expect("it is not reaped").contains(") Z ")
    })
    .await;
}

#[tokio::test]
async fn a_caught_panic_fails_the_test() {
    let process = shell("echo \"thread 'shard-0' panicked at src/a.rs:1:2:\" >&2").await;
    assert_eq!(failure_of(process).as_deref(), Some("campanile panicked"));
    let process = shell("echo connection closed reason=disconnected >&2").await;
    assert_eq!(failure_of(process), None);
}

/// The message of a real panic that is caught: this test starts itself as the process.
#[tokio::test]
async fn a_real_caught_panic_is_found() {
    const VARIABLE: &str = "CAMPANILE_TESTS_PANIC";
    if std::env::var_os(VARIABLE).is_some() {
        assert!(catch_unwind(|| panic!("on purpose")).is_err());
        return;
    }
    for (panics, failure) in [(true, Some("campanile panicked")), (false, None)] {
        let name = "kit_checks::a_real_caught_panic_is_found";
        let name = if panics { name } else { "no test has this name" };
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", name, "--nocapture"]).env(VARIABLE, "1");
        let mut process = Process::from_command(&mut command);
        assert_eq!(process.exit_code().await, Some(0));
        assert_eq!(failure_of(process).as_deref(), failure);
    }
}

#[tokio::test]
async fn a_process_that_ends_unexpectedly_fails_the_test() {
    for (end, expected) in [
        ("exit 0", "campanile ended by itself: exit status: 0"),
        ("exit 3", "campanile ended by itself: exit status: 3"),
        ("kill -SEGV $$", "campanile ended by itself: signal: 11 (SIGSEGV)"),
    ] {
        let process = shell(&format!("echo ready\n{end}")).await;
        ends(&process).await;
        assert_eq!(failure_of(process).as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_process_that_the_test_ended_does_not_fail_it() {
    // A shell that was started in the background ignores INT.
    for name in ["TERM", "KILL"] {
        let process = shell("").await;
        process.signal(name);
        ends(&process).await;
        assert_eq!(failure_of(process), None, "{name}");
    }
    let mut process = shell("echo ready\nexit 1").await;
    assert_eq!(process.exit_code().await, Some(1));
    assert_eq!(failure_of(process), None);
}
