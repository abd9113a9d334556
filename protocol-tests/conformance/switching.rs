//! Starting in the directory of another server's project.

use std::fs;

use kit::{Directory, Process, Server, eventually};

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

const LOST: &str = "config/reverb.php:4: sets allowed_origins to app.example. SECURITY: Campanile allows every origin (apps[0].allowed_origins): set REVERB_ALLOWED_ORIGINS=app.example";

#[tokio::test]
async fn check_shows_the_defaults_of_reverb_and_differences_of_its_php() {
    let directory = laravel();
    let mut process = Process::spawn(&["check"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    assert!(process.stream("out").contains("max_presence_members = 1000000  # default of Reverb"));
    let line = process.stream("err");
    assert!(line.lines().any(|line| line == format!("warning: {LOST}")), "{line}");
    assert!(line.contains("info: read from .env\n"), "{line}");
    assert!(line.contains("info: configured by REVERB_* variables: "), "{line}");
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
        let line = process.stream("err");
        line.contains("WARN") && line.contains(LOST) && line.contains("read from .env")
    })
    .await;
}

/// A configuration that only PHP can evaluate, with two apps.
const COMPUTED: &str = r"<?php
return [
    'default' => env('REVERB_SERVER', 'reverb'),
    'servers' => ['reverb' => [
        'host' => env('REVERB_SERVER_HOST', '0.0.0.0'),
        'port' => env('REVERB_SERVER_PORT', 8080),
        'options' => ['tls' => is_file(base_path('cert.pem')) ? ['local_cert' => base_path('cert.pem')] : []],
    ]],
    'apps' => ['provider' => 'config', 'apps' => array_map(fn (array $app) => $app + [
        'options' => ['host' => env('REVERB_HOST')],
        'allowed_origins' => [$app['key'] . '.example'],
        'max_message_size' => env('REVERB_APP_MAX_MESSAGE_SIZE', 10_000),
    ], [
        ['key' => env('REVERB_APP_KEY'), 'secret' => env('REVERB_APP_SECRET'), 'app_id' => env('REVERB_APP_ID')],
        ['key' => 'second', 'secret' => 'secret-of-the-second', 'app_id' => 2],
    ])],
];
";

#[tokio::test]
async fn an_imported_configuration_serves_the_apps_that_php_computes() {
    let project = laravel();
    project.write("config/reverb.php", COMPUTED);
    let mut process = Process::spawn(&["import"], project.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    assert_eq!(process.stream("err"), "", "nothing is left out");
    let text = fs::read_to_string(project.path().join("config.toml")).expect("it was written");
    // In another folder: without the variables that the project has.
    let elsewhere = Directory::new();
    elsewhere.write("config.toml", &text);
    let server =
        Server::from_process(Process::spawn(&["start"], elsewhere.path()), elsewhere).await;
    for key in ["key-of-reverb", "second"] {
        let path = format!("/app/{key}?protocol=7");
        let own = format!("https://{key}.example");
        server.open_with(&path, &[("origin", own.as_str())]).await.established().await;
        let foreign = [("origin", "https://other.example")];
        server.open_with(&path, &foreign).await.rejected(4009).await;
    }
    let mut again = Process::spawn(&["import"], project.path());
    assert_eq!(again.exit_code().await, Some(2), "{}", again.output());
    let mut again = Process::spawn(&["import", "--force"], project.path());
    assert_eq!(again.exit_code().await, Some(0), "{}", again.output());
}

#[tokio::test]
async fn an_import_that_fails_writes_nothing_and_says_why() {
    for (php, line) in [
        ("<?php return [", "PHP fails: PHP Parse error"),
        ("<?php return no_such_function();", "no_such_function"),
        ("<?php exit(0);", "PHP did not return an array"),
        ("<?php return ['apps' => ['provider' => 'database']];", "apps from another provider"),
    ] {
        let project = laravel();
        project.write("config/reverb.php", php);
        let mut process = Process::spawn(&["import"], project.path());
        assert_eq!(process.exit_code().await, Some(1), "{}", process.output());
        assert!(process.stream("err").contains(line), "{php}: {}", process.output());
        assert!(!project.path().join("config.toml").exists(), "{php}");
    }
    let project = laravel();
    let mut process = Process::spawn(&["import", "--php", "no-such-php"], project.path());
    assert_eq!(process.exit_code().await, Some(1));
    assert!(process.stream("err").contains("no-such-php is not installed"));
    let mut process = Process::spawn(&["import", "no/such.php"], project.path());
    assert_eq!(process.exit_code().await, Some(2));
}
