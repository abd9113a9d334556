//! Causes on the machine of the server.

use crate::{at, changes, doctor, laravel, laravel_env, served};
use kit::{APP_ID, Directory, KEY, SECRET, Settings, free_port, quoted};

#[tokio::test]
async fn nothing_is_wrong_with_a_running_server() {
    let (_server, directory) = served(&Settings::new()).await;
    doctor(&directory, &[]).await.well(&["configuration", "server", "health", "direct"]);
}

#[tokio::test]
async fn nothing_is_wrong_with_an_application_of_laravel() {
    let server = Settings::new().start_node().await;
    let directory = laravel(&laravel_env(&server));
    let url = server.url();
    doctor(&directory, &["--server", &url]).await.well(&["configuration", "direct", "host"]);
}

/// The driver `pusher`: no file of the server is beside the application.
#[tokio::test]
async fn nothing_is_wrong_with_an_application_that_has_variables_of_pusher() {
    let server = Settings::new().start_node().await;
    let directory =
        laravel(&laravel_env(&server).replace("REVERB_", "PUSHER_").replace("reverb", "pusher"));
    let url = server.url();
    doctor(&directory, &["--server", &url]).await.well(&["configuration", "direct", "host", "api"]);
}

/// The application publishes to the loopback address, and the page has another one.
#[tokio::test]
async fn the_address_of_a_page_is_not_that_of_publishes() {
    let server = Settings::new().start_node().await;
    let env = laravel_env(&server).replace("http://localhost", "https://app.invalid");
    let (directory, url) = (laravel(&env), server.url());
    doctor(&directory, &["--server", &url]).await.well(&["direct", "host"]);
    let flags = ["--server", &url, "--url", "https://app.invalid"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("name_not_resolved");
    assert!(finding["seen"].to_string().contains("app.invalid (--url)"), "{finding:#}");
}

#[tokio::test]
async fn the_development_server_of_an_empty_folder_is_well() {
    let server = Settings::without_apps().start_node().await;
    let url = server.url();
    doctor(&Directory::new(), &["--server", &url]).await.well(&["server", "direct"]);
}

#[tokio::test]
async fn configuration_invalid_names_each_line() {
    let (_server, directory) = served(&Settings::new()).await;
    directory.write("config.toml", "[server]\nport = 8080\nhots = \"x\"\nshards = 1000\n");
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("configuration_invalid");
    let seen = finding["seen"].to_string();
    assert!(seen.contains("config.toml:3") && seen.contains("server.hots"), "{seen}");
    assert!(changes(finding)[0].contains("config.toml:4"), "{finding:#}");
    let skipped = diagnosis.link("direct");
    assert_eq!(skipped["text"], "not tried, because of configuration_invalid");
}

#[tokio::test]
async fn configuration_invalid_is_the_only_cause_if_env_has_a_syntax_error() {
    let directory =
        laravel("REVERB_APP_KEY=a b\nBROADCAST_CONNECTION=log\nQUEUE_CONNECTION=redis\n");
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("configuration_invalid");
    assert!(
        finding["seen"].to_string().contains(".env:1: a value with white space"),
        "{finding:#}"
    );
}

#[tokio::test]
async fn server_not_running() {
    let directory = Directory::new();
    let port = free_port();
    let settings = Settings::new().server("host", quoted("127.0.0.1")).server("port", port);
    directory.write("config.toml", &settings.toml());
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("server_not_running");
    assert!(finding["seen"].to_string().contains(&port.to_string()), "{finding:#}");
    assert_eq!(changes(finding), ["campanile start"]);
}

#[tokio::test]
async fn unknown_key_of_the_configuration() {
    let server = Settings::new().start_node().await;
    let directory = Directory::new();
    let other = Settings::without_apps().add_app(APP_ID, "another-key", SECRET);
    directory.write("config.toml", &at(&server, &other).toml());
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("unknown_key");
    assert!(finding["seen"].to_string().contains("another-key"), "{finding:#}");
}

#[tokio::test]
async fn signature_differs_with_another_secret_of_the_configuration() {
    let server = Settings::new().start_node().await;
    let directory = Directory::new();
    let other = Settings::without_apps().add_app(APP_ID, KEY, "another-secret-of-20-characters");
    directory.write("config.toml", &at(&server, &other).toml());
    let diagnosis = doctor(&directory, &[]).await;
    diagnosis.only("signature_differs");
    let report = diagnosis.report.to_string();
    assert!(!report.contains("another-secret"), "{report}");
}

#[tokio::test]
async fn connection_closed_explains_the_close_code() {
    let (_server, directory) = served(&Settings::new().app("enabled", false)).await;
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("connection_closed");
    assert!(finding["seen"].to_string().contains("4003"), "{finding:#}");
    assert_eq!(changes(finding), ["The app is disabled. Set enabled of the app."]);
}

#[tokio::test]
async fn host_is_bind_address() {
    let server = Settings::new().start_node().await;
    let env = laravel_env(&server).replace("REVERB_HOST=127.0.0.1", "REVERB_HOST=0.0.0.0");
    let (directory, url) = (laravel(&env), server.url());
    let diagnosis = doctor(&directory, &["--server", &url]).await;
    let finding = diagnosis.only("host_is_bind_address");
    assert_eq!(changes(finding), [".env:6 REVERB_HOST=localhost"]);
}

#[tokio::test]
async fn broadcasting_not_configured() {
    let server = Settings::new().start_node().await;
    let url = server.url();
    for connection in
        ["BROADCAST_CONNECTION=log", "BROADCAST_CONNECTION=null", "BROADCAST_DRIVER=log"]
    {
        let env = laravel_env(&server).replace("BROADCAST_CONNECTION=reverb", connection);
        let diagnosis = doctor(&laravel(&env), &["--server", &url]).await;
        let finding = diagnosis.only("broadcasting_not_configured");
        let name = if connection.contains("DRIVER") { "DRIVER" } else { "CONNECTION" };
        assert_eq!(changes(finding), [format!(".env:2 BROADCAST_{name}=reverb")]);
    }
}

#[tokio::test]
async fn host_unreachable_has_the_address_that_works() {
    let server = Settings::new().start_node().await;
    let port = server.address.port();
    let (closed, url) = (free_port(), server.url());
    let env = laravel_env(&server).replace(&format!("PORT={port}"), &format!("PORT={closed}"));
    let diagnosis = doctor(&laravel(&env), &["--server", &url]).await;
    let finding = diagnosis.only("host_unreachable");
    assert!(finding["seen"].to_string().contains(&format!("127.0.0.1:{closed}")), "{finding:#}");
    assert_eq!(changes(finding), [format!(".env:7 REVERB_PORT={port}")]);
}

#[tokio::test]
async fn host_unreachable_keeps_the_address_of_browsers() {
    let server = Settings::new().start_node().await;
    let (port, url) = (server.address.port(), server.url());
    // No machine has this name, by RFC 6761.
    let env = laravel_env(&server).replace("HOST=127.0.0.1", "HOST=reverb.invalid");
    let env = env + "VITE_REVERB_HOST=\"${REVERB_HOST}\"\n";
    let diagnosis = doctor(&laravel(&env), &["--server", &url]).await;
    let finding = diagnosis.only("host_unreachable");
    assert!(finding["seen"].to_string().contains(&format!("reverb.invalid:{port}")), "{finding:#}");
    let lines = [".env:6 REVERB_HOST=127.0.0.1", ".env:9 VITE_REVERB_HOST=reverb.invalid"];
    assert_eq!(changes(finding), lines);
}

/// The name is right for the application, which runs in a container.
#[tokio::test]
async fn host_of_container() {
    let server = Settings::new().start_node().await;
    let env = laravel_env(&server).replace("HOST=127.0.0.1", "HOST=reverb.invalid");
    let (directory, url) = (laravel(&env), server.url());
    directory.write(
        "compose.yaml",
        "services:\n  php:\n    image: php\n  reverb.invalid:\n    image: x\n",
    );
    let diagnosis = doctor(&directory, &["--server", &url]).await;
    let finding = diagnosis.only("host_of_container");
    assert!(finding["seen"].to_string().contains("a service reverb.invalid"), "{finding:#}");
    assert!(!diagnosis.report.to_string().contains("REVERB_HOST=127"), "{finding:#}");
}

/// Browsers have an address that works, and only the address for publishes does not.
#[tokio::test]
async fn causes_at_the_address_for_publishes_hide_none_at_that_of_browsers() {
    let server = Settings::new().start_node().await;
    let (port, closed, url) = (server.address.port(), free_port(), server.url());
    let of_browsers = |port: u16| format!("VITE_REVERB_HOST=127.0.0.1\nVITE_REVERB_PORT={port}\n");
    let env = laravel_env(&server).replace("HOST=127.0.0.1", "HOST=reverb.invalid");
    for (is_container, cause) in [(false, "host_unreachable"), (true, "host_of_container")] {
        for (port, causes) in [(port, &[cause][..]), (closed, &[cause, "connection_refused"])] {
            let env = env.clone() + &of_browsers(port) + "VITE_REVERB_SCHEME=http\n";
            let directory = laravel(&env);
            if is_container {
                directory.write("compose.yaml", "services:\n  reverb.invalid:\n    image: x\n");
            }
            let diagnosis = doctor(&directory, &["--server", &url]).await;
            assert_eq!(diagnosis.names(), causes, "{:#}", diagnosis.report);
            assert_eq!(diagnosis.link("ping")["state"] == "ok", causes.len() == 1);
        }
    }
}

/// Mistakes in the variables of an application, each with its cause and the line that mends it.
#[tokio::test]
async fn mistakes_in_variables() {
    let server = Settings::new().start_node().await;
    let (port, url) = (server.address.port(), server.url());
    let env = laravel_env(&server);
    let host = "REVERB_HOST=127.0.0.1";
    let browsers = |host: &str| {
        format!("VITE_REVERB_HOST={host}\nVITE_REVERB_PORT={port}\nVITE_REVERB_SCHEME=http\n")
    };
    let with = |from: &str, to: &str| env.replace(from, to);
    let public = with("http://localhost", "https://app.example.com");
    for (env, cause, line) in [
        (
            with(host, "REVERB_HOST=http://127.0.0.1"),
            "address_invalid",
            ".env:6 REVERB_HOST=127.0.0.1",
        ),
        (
            with(host, "REVERB_HOST=127.0.0.1:8080"),
            "address_invalid",
            ".env:6 REVERB_HOST=127.0.0.1",
        ),
        (
            with(host, "REVERB_HOST=\"${NOT_SET}\""),
            "address_invalid",
            "Set the host without scheme",
        ),
        (with("SCHEME=http", "SCHEME=wss"), "address_invalid", ".env:8 REVERB_SCHEME=https"),
        (
            with(&format!("PORT={port}"), "PORT=https"),
            "address_invalid",
            "Set the host without scheme",
        ),
        (
            env.clone() + &browsers("0.0.0.0"),
            "host_is_bind_address",
            ".env:9 VITE_REVERB_HOST=localhost",
        ),
        (
            public + &browsers("localhost"),
            "host_is_local",
            ".env:9 VITE_REVERB_HOST=app.example.com",
        ),
        (
            env.clone() + "VITE_REVERB_APP_KEY=an-older-key\n",
            "browser_key_differs",
            ".env:9 VITE_REVERB_APP_KEY=",
        ),
        (
            with("=reverb", "=revreb"),
            "broadcasting_not_configured",
            ".env:2 BROADCAST_CONNECTION=reverb",
        ),
        (
            with("=reverb", "=ably"),
            "broadcasting_not_configured",
            ".env:2 BROADCAST_CONNECTION=reverb",
        ),
        (
            with("=reverb", "=pusher"),
            "broadcasting_not_configured",
            ".env:2 BROADCAST_CONNECTION=reverb",
        ),
    ] {
        let diagnosis = doctor(&laravel(&env), &["--server", &url, "--quick"]).await;
        let finding = diagnosis.only(cause);
        assert!(changes(finding)[0].starts_with(line), "{finding:#}");
    }
}

/// A connection of the application's own name, and one that reads other variables.
#[tokio::test]
async fn nothing_is_wrong_with_connections_of_the_application() {
    let server = Settings::new().start_node().await;
    let env = laravel_env(&server);
    for (connection, driver) in
        [("live", "'live' => ['driver' => 'reverb'"), ("pusher", "'pusher' => []")]
    {
        let directory = laravel(&env.replace("=reverb", &format!("={connection}")));
        std::fs::create_dir_all(directory.path().join("config")).expect("a folder");
        let text = format!(
            "<?php return ['connections' => [{driver}, 'key' => env('REVERB_APP_KEY')]];\n"
        );
        directory.write("config/broadcasting.php", &text);
        let flags = ["--server", &server.url(), "--quick"];
        doctor(&directory, &flags).await.well(&["configuration", "direct", "api"]);
    }
}

/// The server reads the variables that the file names, and not the values that are written in it.
#[tokio::test]
async fn reverb_php_differs() {
    let server = Settings::new().start_node().await;
    let directory = laravel(&laravel_env(&server));
    std::fs::create_dir_all(directory.path().join("config")).expect("a folder");
    directory.write(
        "config/reverb.php",
        "<?php return ['apps' => ['provider' => 'config', 'apps' => [[\n'key' => env('REVERB_APP_KEY'),\n\
         'secret' => env('REVERB_APP_SECRET'),\n'app_id' => env('REVERB_APP_ID'),\n\
         'allowed_origins' => ['a.test'],\n]]]];\n",
    );
    let diagnosis = doctor(&directory, &["--server", &server.url(), "--quick"]).await;
    let finding = diagnosis.only("reverb_php_differs");
    assert!(finding["seen"].to_string().contains("allowed_origins"), "{finding:#}");
}

/// As `start` takes the address.
#[tokio::test]
async fn the_address_of_the_server_is_given_by_host_and_port() {
    let server = Settings::new().start_node().await;
    let directory = laravel(&laravel_env(&server).replace("REVERB_PORT", "REVERB_OTHER"));
    let port = server.address.port().to_string();
    let diagnosis = doctor(&directory, &["--host", "127.0.0.1", "--port", &port, "--quick"]).await;
    assert_eq!(diagnosis.link("direct")["state"], "ok", "{:#}", diagnosis.report);
}

/// The configuration has TLS, and the port has none.
#[tokio::test]
async fn server_is_other_without_tls() {
    let (server, directory) = served(&Settings::new()).await;
    let flags = ["--server", &server.url().replace("http://", "https://")];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("server_is_other");
    assert!(finding["seen"].to_string().contains("TLS handshake failed"), "{finding:#}");
}
