//! No input of a process makes a command panic.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, Output, Stdio};

use kit::{Directory, Settings, program};

/// Runs a shell command in `directory`, where `$C` is the program.
fn shell(directory: &Directory, line: &str, environment: &[(&OsStr, &OsStr)]) -> Output {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(directory.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("C", program())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    let output_text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output_text.contains("panicked") && output.status.code() != Some(101),
        "{line}: {output_text}"
    );
    output
}

fn configured() -> Directory {
    let directory = Directory::new();
    directory.write("config.toml", &Settings::new().toml());
    directory
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn variables_that_are_not_utf_8_are_rejected_if_they_are_settings_and_ignored_otherwise() {
    let directory = configured();
    let bytes = OsStr::from_bytes(b"x\xff");
    for (name, code) in [(&b"OTHER"[..], 0), (b"OTHER\xfe", 0), (b"CAMPANILE_SERVER__PATH", 2)] {
        let output = shell(&directory, "$C check", &[(OsStr::from_bytes(name), bytes)]);
        assert_eq!(output.status.code(), Some(code), "{}", output_text(&output));
        let is_named =
            output_text(&output).contains("environment CAMPANILE_SERVER__PATH: contains bytes");
        assert_eq!(is_named, code == 2, "{}", output_text(&output));
    }
    // `listen` retries to connect until its output is closed.
    let commands =
        ["health", "publish c e", "listen c | true", "webhooks test", "--version", "--help"];
    for command in commands {
        let line = format!("$C {command}");
        shell(&directory, &line, &[(OsStr::new("OTHER"), bytes)]);
    }
}

#[test]
fn arguments_and_files_that_are_not_utf_8_are_rejected_with_a_line() {
    let directory = configured();
    for argument in [&b"--host=\xff"[..], b"--config=\xff", b"--env-file=\xff", b"\xff"] {
        let output = Command::new(program())
            .arg(OsString::from_vec(argument.to_vec()))
            .current_dir(directory.path())
            .output()
            .expect("the binary was built");
        assert_eq!(output.status.code(), Some(2), "{}", output_text(&output));
        assert!(!output_text(&output).contains("panicked"), "{}", output_text(&output));
    }
    for (file, bytes, place) in [
        (".env", &b"A=1\nB=\xff\n"[..], ".env:2: contains bytes that are not UTF-8"),
        (".env", b"\xff\xfeA\0=\0", ".env: is in UTF-16"),
        ("config.toml", b"[log]\n\n\xc3\x28\n", "config.toml:3: contains bytes that are not UTF-8"),
    ] {
        let directory = configured();
        std::fs::write(directory.path().join(file), bytes).expect("a folder of our own");
        let output = shell(&directory, "$C check", &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output_text(&output).contains(place), "{}", output_text(&output));
    }
    let directory = configured();
    let text = format!("\u{feff}{}", Settings::new().toml());
    directory.write("config.toml", &text);
    assert_eq!(shell(&directory, "$C check", &[]).status.code(), Some(0));
}

#[test]
fn keys_that_only_look_like_paths_are_unknown() {
    for key in [
        "\"apps[0]\" = { id = \"1\" }",
        "\"apps[x]\" = { id = \"1\" }\n[[apps]]\nid = \"1\"",
        "\"server.port\" = 1",
        "\"a\\nb\" = 1",
        "\"\" = 1",
    ] {
        let directory = Directory::new();
        directory.write("config.toml", key);
        let output = shell(&directory, "$C check", &[]);
        assert_eq!(output.status.code(), Some(2), "{key}");
        assert!(output_text(&output).contains("unknown key"), "{key}: {}", output_text(&output));
    }
    for name in ["CAMPANILE_APPS[0]__ID", "CAMPANILE_APPS[X]__ID", "CAMPANILE_SERVER.PORT__X"] {
        // A shell would not pass such a variable name.
        let output = Command::new(program())
            .arg("check")
            .current_dir(configured().path())
            .env_clear()
            .env(name, "1")
            .output()
            .expect("the binary was built");
        assert_eq!(output.status.code(), Some(2), "{name}: {}", output_text(&output));
    }
}

#[test]
fn an_unwritable_output_is_a_failure_and_a_closed_one_is_not() {
    let directory = configured();
    for command in ["check", "--help", "--version"] {
        let full = shell(&directory, &format!("$C {command} > /dev/full"), &[]);
        assert_eq!(full.status.code(), Some(1), "{command}: {}", output_text(&full));
        assert!(
            output_text(&full).contains("cannot write to standard output"),
            "{}",
            output_text(&full)
        );
        let quiet = shell(&directory, &format!("$C {command} | true"), &[]);
        assert!(
            !output_text(&quiet).contains("cannot write"),
            "{command}: {}",
            output_text(&quiet)
        );
    }
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2> /dev/full", "> /dev/full 2>&1"] {
        for command in ["check", "health", "--nonsense", "start --host 192.0.2.1"] {
            shell(&directory, &format!("$C {command} {closed}"), &[]);
        }
    }
}

#[test]
fn a_deleted_folder_and_an_empty_environment_cause_no_panic() {
    let directory = configured();
    let line = "mkdir gone && cd gone && rmdir ../gone && $C start --host 192.0.2.1";
    let output = shell(&directory, line, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", output_text(&output));
    assert_eq!(shell(&directory, "env -i $C check", &[]).status.code(), Some(0));
}

#[test]
fn a_start_may_read_its_configuration_from_a_pipe() {
    let directory = configured();
    for line in [
        "cat config.toml | $C check --config /dev/stdin",
        "$C check --config /dev/stdin < config.toml",
    ] {
        let output = shell(&directory, line, &[]);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", output_text(&output));
        assert!(output_text(&output).contains("read from /dev/stdin"), "{}", output_text(&output));
    }
}

#[test]
fn an_endless_tls_file_or_pipe_is_rejected() {
    for settings in [
        "[server]\ntls = { cert = \"F\", key = \"F\" }\n",
        "[redis]\nurl = \"rediss://127.0.0.1\"\nca = \"F\"\n",
    ] {
        for file in ["/dev/zero", "a-pipe"] {
            let directory = Directory::new();
            let text = settings.replace('F', file);
            directory.write("config.toml", &format!("{text}{}", Settings::new().toml()));
            let output = shell(&directory, "mkfifo a-pipe; timeout 9 $C check", &[]);
            assert_eq!(output.status.code(), Some(2), "{text}: {}", output_text(&output));
            assert!(
                output_text(&output).contains("not a regular file"),
                "{}",
                output_text(&output)
            );
        }
    }
}
