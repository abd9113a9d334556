//! `campanile init`, and what packages install beside the program: completions and manual pages.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use kit::{Directory, Process, Server};

/// Runs a command in `directory`; returns its exit code, stdout and stderr.
async fn run(arguments: &[&str], directory: &Directory) -> (Option<i32>, String, String) {
    let mut process = Process::spawn(arguments, directory.path());
    let code = process.exit_code().await;
    (code, process.stream("out"), process.stream("err"))
}

/// The value after `NAME=` in the printed lines for `.env`.
fn printed<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name} in {text}"))
}

#[tokio::test]
async fn init_writes_a_configuration_that_the_server_and_the_commands_use() {
    let directory = Directory::new();
    // Without a terminal nothing is asked.
    let (code, out, err) = run(&["init"], &directory).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let path = directory.path().join("config.toml");
    let mode = std::fs::metadata(&path).expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!out.contains("password"), "{out}");
    let process =
        Process::spawn(&["start", "--host", "127.0.0.1", "--port", "0"], directory.path());
    let server = Server::from_process(process, directory).await;
    let app = [("--app-id", "ID"), ("--key", "KEY"), ("--secret", "SECRET")];
    let app = app.map(|(flag, name)| [flag, printed(&out, &format!("REVERB_APP_{name}"))]);
    let url = format!("http://{}", server.address);
    let publish = [&["publish", "c", "e", "--url", &url][..], &app.concat()].concat();
    let elsewhere = Directory::new();
    let (code, ..) = run(&publish, &elsewhere).await;
    assert_eq!(code, Some(0), "the printed credentials are those of the file");
    assert!(out.contains(&format!("key: '{}'", printed(&out, "REVERB_APP_KEY"))), "{out}");
}

#[tokio::test]
async fn init_takes_flags_and_replaces_a_file_only_by_force() {
    let directory = Directory::new();
    let flags = ["--port", "7001", "--origins", "a.test, *.b.test", "--redis", "redis://r/1"];
    let init = [&["init", "other.toml"][..], &flags].concat();
    let (code, out, _) = run(&init, &directory).await;
    assert_eq!(code, Some(0));
    assert!(
        out.contains("campanile start --config other.toml") && out.contains("REVERB_PORT=7001")
    );
    let path = directory.path().join("other.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let table: toml::Table = text.parse().expect("it is TOML");
    assert_eq!(table["server"]["port"].as_integer(), Some(7_001));
    let origins = table["apps"][0]["allowed_origins"].to_string();
    assert_eq!(origins, r#"["a.test", "*.b.test"]"#);
    assert_eq!(table["redis"]["url"].as_str(), Some("redis://r/1"));
    let (code, _, err) = run(&init, &directory).await;
    assert_eq!(
        (code, err.as_str()),
        (Some(2), "campanile: other.toml exists: --force replaces it")
    );
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), text);
    let (code, ..) = run(&[&init[..], &["--force"]].concat(), &directory).await;
    assert_eq!(code, Some(0));
    assert_ne!(std::fs::read_to_string(&path).expect("it is there"), text, "another secret");
    for (flag, value) in [("--port", "70000"), ("--origins", "http://"), ("--redis", "http://r")] {
        let (code, ..) = run(&["init", "new.toml", flag, value], &directory).await;
        assert_eq!(code, Some(2), "{flag} {value}");
        assert!(!directory.path().join("new.toml").exists());
    }
    let (code, _, err) = run(&["init", "no/such/folder.toml"], &directory).await;
    assert!(code == Some(1) && err.contains("cannot write no/such/folder.toml"), "{err}");
}

#[tokio::test]
async fn init_asks_on_a_terminal() {
    let directory = Directory::new();
    let init = format!("{} init", kit::program().display());
    // `script` runs a command on a terminal of its own.
    let mut child = Command::new("script")
        .args(["-qec", &init, "/dev/null"])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is part of Debian's bsdutils");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(b"x\n7002\nexample.com\n\n").await.expect("it reads");
    let output = child.wait_with_output().await.expect("it ends");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("must be an integer"), "{printed}");
    assert!(
        printed.contains("Port to listen on [8080]: ") && printed.contains("[*]: "),
        "{printed}"
    );
    let text = std::fs::read_to_string(directory.path().join("config.toml")).expect("it is there");
    assert!(text.contains("port = 7002\n") && text.contains(r#"["example.com"]"#), "{text}");
    assert!(!text.contains("redis"), "{text}");
}

#[tokio::test]
async fn completions_are_printed_for_each_shell_and_accepted_by_bash() {
    let directory = Directory::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, _) = run(&["completions", shell], &directory).await;
        assert!(code == Some(0) && out.contains("publish"), "{shell}: {out}");
        if shell == "bash" {
            directory.write("completions", &format!("{out}\n"));
        }
    }
    let script = "source completions && COMP_WORDS=(campanile pub) COMP_CWORD=1 && \
        _campanile campanile pub campanile && printf %s \"${COMPREPLY[*]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(directory.path());
    let completed = bash.output().await.expect("bash is there");
    assert_eq!(String::from_utf8_lossy(&completed.stdout), "publish");
    assert_eq!(run(&["completions", "csh"], &directory).await.0, Some(2));
}

#[tokio::test]
async fn there_is_a_manual_page_for_each_command() {
    let directory = Directory::new();
    let (code, page, _) = run(&["man"], &directory).await;
    assert!(code == Some(0) && page.contains(".TH campanile 1"), "{page}");
    std::fs::create_dir(directory.path().join("man")).expect("it is new");
    assert_eq!(run(&["man", "--dir", "man"], &directory).await.0, Some(0));
    let documented = include_str!("../../docs/commands.md");
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `campanile "));
    let commands: Vec<&str> = rows.filter_map(|row| row.split([' ', '`']).next()).collect();
    assert!(commands.contains(&"publish"), "{commands:?}");
    for command in commands {
        let page = directory.path().join(format!("man/campanile-{command}.1"));
        assert!(page.exists(), "{command} has a page, and so is documented");
    }
    let (code, _, err) = run(&["man", "--dir", "missing"], &directory).await;
    assert!(code == Some(1) && err.contains("cannot write into missing"), "{err}");
}
