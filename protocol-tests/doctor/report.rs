//! The report for people.

use crate::{command, doctor, laravel, laravel_env, served};
use kit::{Directory, KEY, SECRET, Settings};

#[tokio::test]
async fn a_report_for_people_has_a_line_for_each_link_and_no_secret() {
    let (_server, directory) = served(&Settings::new()).await;
    let output = command(&directory).arg("doctor").output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in ["ok        server         Campanile answers", "ok        health         ready"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.ends_with("\nNothing is wrong with what was checked.\n"), "{text}");
    assert!(!text.contains(SECRET) && !text.contains('\u{1b}'), "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_finding_is_a_block_that_fits_a_screen() {
    let directory = Directory::new();
    directory.write("config.toml", &format!("[[apps]]\nid = \"1\"\nkey = \"{KEY}\"\n"));
    let output = command(&directory).arg("doctor").output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("broken: configuration_invalid: "), "{text}");
    assert!(text.ends_with("\n1 broken, 0 doubtful.\n"), "{text}");
    assert!(text.lines().count() <= 24, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

/// In each state: without a server, with one that has another secret, and with one that has this.
#[tokio::test]
async fn no_report_contains_a_secret() {
    let server = Settings::new().start_node().await;
    let url = server.url();
    let secrets =
        ["a-secret-of-the-app", "a-password-of-redis", "a-cookie", "a-header", "base64:an-app-key"];
    for (flags, secret) in [
        (&[][..], secrets[0]),
        (&["--server", &url][..], secrets[0]),
        (&["--server", &url], SECRET),
    ] {
        let env = laravel_env(&server).replace(SECRET, secret);
        let redis = format!("REDIS_PASSWORD={}\nAPP_KEY={}\n", secrets[1], secrets[4]);
        let directory = laravel(&(env + &redis));
        for json in [&["--json"][..], &[]] {
            let given =
                ["--cookie", "session=a-cookie", "--header", "Authorization: a-header", "--quick"];
            let endpoint = ["--auth-endpoint", "http://127.0.0.1:9/broadcasting/auth"];
            let mut command = command(&directory);
            command.arg("doctor").args(flags).args(json).args(given).args(endpoint);
            let output = command.output().expect("the program runs");
            let text =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("configuration"), "{text}");
            for secret in secrets.iter().chain([&SECRET]) {
                assert!(!text.contains(secret), "{secret} is in:\n{text}");
            }
        }
    }
}

/// What cannot be tried is no success.
#[test]
fn unusable_options_are_wrong_usage() {
    let directory = Directory::new();
    for (flags, said) in [
        (&["--ws", "ws.example.com"][..], "--ws must begin with wss:// or ws://"),
        (&["--ws", "ftp://ws.example.com"], "--ws must begin"),
        (&["--url", "app.example.com"], "--url must begin with https:// or http://"),
        (&["--server", "127.0.0.1:8080"], "--server must begin"),
        (&["--auth-endpoint", "wss://app.example.com/auth"], "--auth-endpoint must begin"),
        (&["--app-id", "typo"], "--app-id typo is no app"),
        (&["--header", "a-secret-header"], "--header must be NAME: VALUE"),
        (&["--cookie", "@missing"], "cannot read the file"),
        (&["--header", "@missing"], "cannot read the file"),
        (&["--ca", "missing.pem"], "--ca missing.pem cannot be read"),
        (&["--nginx-config", "missing.conf"], "--nginx-config missing.conf cannot be read"),
    ] {
        let output = command(&directory).arg("doctor").args(flags).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert!(output.stdout.is_empty(), "{flags:?}");
        assert!(error.contains(said) && !error.contains("a-secret"), "{flags:?}: {error}");
    }
}

#[tokio::test]
async fn short_cookies_leave_the_report_readable() {
    let (_server, directory) = served(&Settings::new()).await;
    let diagnosis = doctor(&directory, &["--cookie", "theme=1; l=en"]).await;
    diagnosis.well(&["server"]);
    assert!(diagnosis.report.to_string().contains("127.0.0.1"), "{:#}", diagnosis.report);
}

#[tokio::test]
async fn a_url_in_a_report_has_no_password_and_no_token() {
    let (_server, directory) = served(&Settings::new()).await;
    let page = "https://staging:a-password@localhost/?token=a-token-of-a-page";
    let diagnosis = doctor(&directory, &["--url", page, "--ws", "ws://127.0.0.1:9"]).await;
    let finding = diagnosis.only("mixed_content");
    let seen = finding["seen"].to_string();
    assert!(seen.contains("https://***@localhost/?token=***"), "{seen}");
    let report = diagnosis.report.to_string();
    assert!(!report.contains("a-password") && !report.contains("a-token"), "{report}");
}
