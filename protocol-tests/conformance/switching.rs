//! Starting in the directory of another server's project.

use std::fs;

use kit::{Directory, Process, eventually};

const ENV: &str = "APP_ENV=local\nBROADCAST_CONNECTION=reverb\nREVERB_APP_ID=123456\nREVERB_APP_KEY=key-of-reverb\n\
    REVERB_APP_SECRET=s3cr3t-of-reverb\nREVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\n\
    REVERB_SERVER_HOST=127.0.0.1\nREVERB_SERVER_PORT=0\n";

const PHP: &str = "<?php\nreturn ['apps' => ['provider' => 'config', 'apps' => [[\n    'key' => env('REVERB_APP_KEY'),\n    \
    'allowed_origins' => ['app.example'],\n]]]];\n";

/// A Laravel project that restricts its origins in PHP.
fn laravel() -> Directory {
    let directory = Directory::new();
    directory.write(".env", ENV);
    fs::create_dir(directory.path().join("config")).expect("the folder is new");
    directory.write("config/reverb.php", PHP);
    directory
}

const LOST: &str = "config/reverb.php:4: allowed_origins is app.example there and is not read. SECURITY: here every origin \
    may connect (apps[0].allowed_origins): write REVERB_ALLOWED_ORIGINS=app.example";

#[tokio::test]
async fn check_shows_the_defaults_of_reverb_and_differences_of_its_php() {
    let directory = laravel();
    let mut process = Process::spawn(&["check"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    assert!(process.stream("out").contains("max_presence_members = 1000000  # default of Reverb"));
    let said = process.stream("err");
    assert!(said.lines().any(|line| line == format!("note: {LOST}")), "{said}");
    assert!(said.contains("info: read from .env\n"), "{said}");
    assert!(said.contains("info: configured by REVERB_* variables: "), "{said}");
    assert!(!process.output().contains("s3cr3t-of-reverb"));
    let heeded = [("REVERB_ALLOWED_ORIGINS", "app.example")];
    let mut process = Process::spawn_with(&["check"], directory.path(), &heeded);
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    assert!(!process.stream("err").contains("SECURITY"), "{}", process.output());
}

#[tokio::test]
async fn start_logs_the_same_differences() {
    let directory = laravel();
    let mut process = Process::spawn(&["start"], directory.path());
    process.line("the address", |line| line.contains("listens on")).await;
    eventually("the log says it", async || {
        let said = process.stream("err");
        said.contains("WARN") && said.contains(LOST) && said.contains("read from .env")
    })
    .await;
}
