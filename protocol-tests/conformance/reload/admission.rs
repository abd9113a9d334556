//! A reload never removes restrictions: files that are missing, empty or truncated change nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use kit::{Client, Directory, Process, Server, Settings, eventually, quoted};

use crate::Start as _;

use super::{OTHER, client_of_other, publish_as_other, with_other};

/// Two apps, of which the second accepts pages of one origin only, and a client of each.
async fn with_clients() -> (Server, Client, Client) {
    let settings = with_other().app("allowed_origins", r#"["a.example"]"#);
    let server = settings.start().await;
    let (client, other) = (server.client().await, client_of_other(&server).await);
    (server, client, other)
}

/// Checks that both clients are connected, both apps are unchanged, and there is no development app.
async fn nothing_has_changed(server: &Server, client: &mut Client, other: &mut Client) {
    client.ping_barrier().await;
    other.ping_barrier().await;
    let target = format!("/app/{}", OTHER.1);
    server.open_with(&target, &[("origin", "https://b.example")]).await.rejected(4009).await;
    server.open("/app/app-key").await.rejected(4001).await;
}

#[tokio::test]
async fn a_missing_empty_or_truncated_file_changes_nothing() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage, &str); 10] = [
        (
            "missing",
            |file| fs::remove_file(file).unwrap(),
            "is missing; it existed at the last load",
        ),
        ("empty", |file| fs::write(file, "").unwrap(), "is empty; it was not at the last load"),
        (
            "white space",
            |file| fs::write(file, " \n\n").unwrap(),
            "is empty; it was not at the last load",
        ),
        (
            "a dangling link",
            |file| {
                fs::remove_file(file).unwrap();
                symlink("nowhere.toml", file).unwrap();
            },
            "is a link to a file that does not exist",
        ),
        (
            "a folder",
            |file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            },
            "cannot be read",
        ),
        (
            "no apps",
            |file| fs::write(file, "[log]\nlevel = \"info\"\n").unwrap(),
            "no longer contains apps",
        ),
        ("cut in a line", |file| cut(file, |text| text.find("d = ")), "looks truncated"),
        ("cut in an app", |file| cut(file, |text| text.rfind("id = ")), "looks truncated"),
        (
            "a pipe",
            |file| {
                fs::remove_file(file).unwrap();
                assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
            },
            "not a regular file",
        ),
        ("bytes", |file| fs::write(file, b"[log]\n\xff\n").unwrap(), "not UTF-8"),
    ];
    let (server, mut client, mut other) = with_clients().await;
    let file = server.directory.path().join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (name, damage, rule) in damages {
        damage(&file);
        let report = server.reload_unchanged().await;
        assert!(report.contains(" ERROR ") && report.contains(rule), "{name}: {report}");
        assert!(report.contains("config.toml"), "{name}: {report}");
        nothing_has_changed(&server, &mut client, &mut other).await;
        if file.is_dir() {
            fs::remove_dir(&file).unwrap();
        } else {
            let _missing_already = fs::remove_file(&file);
        }
        fs::write(&file, &text).unwrap();
        let report = server.reload_unchanged().await;
        assert!(report.contains(" reloaded"), "{name}: {report}");
    }
}

/// Truncates the file before `end`, as a full disk does.
fn cut(file: &Path, end: impl FnOnce(&str) -> Option<usize>) {
    let text = fs::read_to_string(file).expect("a file of our own can be read");
    let end = end(&text).expect("there is such a place");
    fs::write(file, &text[..end]).expect("a file of our own can be written");
}

#[tokio::test]
async fn an_app_absent_from_a_file_with_others_is_removed() {
    let (server, mut client, mut other) = with_clients().await;
    let report = server.reload(&Settings::new()).await;
    assert!(report.contains(r#"reloaded apps_removed="4""#), "{report}");
    other.rejected(4003).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn the_last_app_of_a_file_can_be_removed_alone() {
    let (server, mut client, mut other) = with_clients().await;
    cut(&server.directory.path().join("config.toml"), |text| text.rfind("[[apps]]"));
    let report = server.reload_unchanged().await;
    assert!(report.contains(r#"reloaded apps_removed="4""#), "{report}");
    other.rejected(4003).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn all_apps_can_be_removed_at_once_only_without_connections() {
    let (server, mut client, mut other) = with_clients().await;
    let stranger = Settings::without_apps().add_app("9", "key-of-9", "secret-of-9");
    let report = server.reload(&stranger).await;
    assert!(report.contains(" ERROR ") && report.contains("2 connections"), "{report}");
    nothing_has_changed(&server, &mut client, &mut other).await;
    server.open("/app/key-of-9").await.rejected(4001).await;
    // Disabled first, as the error message advises.
    let off = Settings::new().app("enabled", false);
    let (id, key, secret) = OTHER;
    server.reload(&off.add_app(id, key, secret).app("enabled", false)).await;
    client.rejected(4003).await;
    other.rejected(4003).await;
    eventually("it is taken", async || server.reload(&stranger).await.contains(" reloaded")).await;
    server.open("/app/key-of-9").await.established().await;
    assert_eq!(publish_as_other(&server, "c").await, 404);
}

#[tokio::test]
async fn the_development_app_is_not_added_even_if_configured() {
    let (server, mut client, mut other) = with_clients().await;
    let development = with_other().add_app("app-id", "app-key", "app-secret");
    let report = server.reload(&development).await;
    assert!(
        report.contains(" ERROR ") && report.contains("cannot switch to the development app"),
        "{report}"
    );
    nothing_has_changed(&server, &mut client, &mut other).await;
}

#[tokio::test]
async fn a_development_server_stays_one_or_gets_apps() {
    let directory = Directory::new();
    let mut process = Process::spawn(&["start", "--port", "0"], directory.path());
    process.line("the line with the address", |line| line.contains("listens on")).await;
    let outcomes =
        |word: &str| process.stream("err").lines().filter(|line| line.contains(word)).count();
    process.signal("HUP");
    eventually("it is read again", async || outcomes(" reloaded") == 1).await;
    directory.write("config.toml", &Settings::new().toml());
    process.signal("HUP");
    eventually("it has an app", async || outcomes("apps_added=\"3\"") == 1).await;
    // The file exists from now on.
    fs::remove_file(directory.path().join("config.toml")).unwrap();
    process.signal("HUP");
    eventually("it is rejected", async || outcomes("config.toml: is missing") == 1).await;
}

#[tokio::test]
async fn variables_of_a_dotenv_file_do_not_disappear() {
    let directory = Directory::new();
    let dotenv = "REVERB_APP_ID=5\nREVERB_APP_KEY=key-of-5\nREVERB_APP_SECRET=first-secret-of-5\n\
        REVERB_ALLOWED_ORIGINS=a.example\n";
    directory.write(".env", dotenv);
    let arguments = ["start", "--host", "127.0.0.1", "--port", "0"];
    let mut process = Process::spawn(&arguments, directory.path());
    process.line("the line with the address", |line| line.contains("listens on")).await;
    let wait_for_log = async |word: &str| {
        process.signal("HUP");
        eventually(word, async || process.stream("err").contains(word)).await;
    };
    let file = directory.path().join(".env");
    fs::remove_file(&file).unwrap();
    wait_for_log(".env: is missing; it existed at the last load").await;
    directory.write(".env", "");
    wait_for_log(".env: is empty; it was not at the last load").await;
    let (head, _) = dotenv.split_once("REVERB_ALLOWED").unwrap();
    directory.write(".env", head);
    wait_for_log(".env: looks truncated").await;
    directory.write(".env", "# nothing\n");
    wait_for_log("a reload cannot switch to the development app").await;
    directory.write(".env", &dotenv.replace("a.example", "b.example"));
    wait_for_log("apps_changed=\"5 (allowed_origins)\"").await;
}

#[tokio::test]
async fn a_reload_rejects_a_guessable_secret_off_loopback() {
    let directory = Directory::new();
    let (id, key) = ("5", "key-of-5");
    let settings = |secret: &str| {
        let settings = Settings::without_apps().add_app(id, key, secret);
        settings.server("host", quoted("0.0.0.0")).server("port", 0).toml()
    };
    directory.write("config.toml", &settings("first-secret-of-5"));
    let mut process = Process::spawn(&["start"], directory.path());
    process.line("the line with the address", |line| line.contains("listens on")).await;
    directory.write("config.toml", &settings("changeme"));
    let mut check = Process::spawn(&["start"], directory.path());
    assert_eq!(check.exit_code().await, Some(2), "{}", check.output());
    for report in [check.stream("err"), {
        process.signal("HUP");
        eventually("the log says why", async || process.stream("err").contains(" ERROR ")).await;
        process.stream("err")
    }] {
        assert!(report.contains("apps[0].secret: is a published placeholder"), "{report}");
        assert!(!report.contains("changeme"), "{report}");
    }
    directory.write("config.toml", &settings("short"));
    process.signal("HUP");
    eventually("it is warned about and taken", async || {
        let report = process.stream("err");
        report.contains("shorter than 16 characters") && report.contains("5 (secret)")
    })
    .await;
}
