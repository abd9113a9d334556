//! Causes in processes, ports and limits of the machine.

use crate::{at, changes, doctor, is_ready, laravel, laravel_env};
use kit::{
    Directory, KEY, Process, SECRET, Server, Settings, eventually, free_port, program, quoted,
};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

/// A web server that knows no path, in this process.
fn other_program() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _request = stream.read(&mut [0; 4_096]);
                let response = "HTTP/1.1 404 Not Found\r\nServer: other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(response.as_bytes());
            });
        }
    });
    address
}

fn at_port(port: u16) -> Directory {
    let directory = Directory::new();
    let settings = Settings::new().server("host", quoted("127.0.0.1")).server("port", port);
    directory.write("config.toml", &settings.toml());
    directory
}

#[tokio::test]
async fn port_in_use_names_the_process() {
    let address = other_program();
    let diagnosis = doctor(&at_port(address.port()), &[]).await;
    let finding = diagnosis.only("port_in_use");
    let seen = finding["seen"].to_string();
    let id = std::process::id();
    assert!(seen.contains(&format!("Process {id} has the port: doctor-")), "{seen}");
    assert!(seen.contains("404") && seen.contains("is other"), "{seen}");
    assert!(changes(finding)[0].contains("another server.port"), "{finding:#}");
    assert!(!diagnosis.report.to_string().contains("kill"), "{finding:#}");
}

/// The default port of this machine belongs to a program that has nothing to do with the server.
#[tokio::test]
async fn another_program_is_no_cause_if_the_server_is_elsewhere() {
    let port = other_program().port();
    let env = format!(
        "BROADCAST_CONNECTION=reverb\nREVERB_APP_ID=1\nREVERB_APP_KEY={KEY}\nREVERB_APP_SECRET={SECRET}\n\
         REVERB_HOST=ws.invalid\n"
    );
    let directory = laravel(&format!("{env}REVERB_SERVER_PORT={port}\n"));
    let diagnosis = doctor(&directory, &[]).await;
    diagnosis.only("host_unreachable");
    let server = diagnosis.link("server");
    assert_eq!(server["state"], "skipped", "{server:#}");
    assert!(server["text"].to_string().contains("pass --server"), "{server:#}");
}

#[tokio::test]
async fn server_is_other_if_its_process_is_not_known() {
    let url = format!("http://{}", other_program());
    let diagnosis = doctor(&Directory::new(), &["--server", &url]).await;
    diagnosis.only("server_is_other");
}

#[tokio::test]
async fn port_not_published() {
    let port = free_port();
    for (ports, name) in
        [("9999:9999", "port_not_published"), ("${PORT:-PORT}:8080", "server_not_running")]
    {
        let directory = at_port(port);
        let ports = ports.replace("PORT}", &format!("{port}}}"));
        let compose = format!("services:\n  laravel.test:\n    ports:\n      - '{ports}'\n");
        directory.write("compose.yaml", &compose);
        let diagnosis = doctor(&directory, &[]).await;
        let finding = diagnosis.only(name);
        if name == "port_not_published" {
            let line = format!("compose.yaml:3, ports - \"{port}:{port}\"");
            assert_eq!(changes(finding), [line, "docker compose up -d".to_owned()]);
        }
    }
}

#[tokio::test]
async fn server_not_ready() {
    // With its grace of an hour, the server waits for the client.
    let settings = Settings::new().server("shutdown_grace_s", 3_600).server("reuse_port", true);
    let server = settings.start_node().await;
    let directory = Directory::new();
    directory.write("config.toml", &at(&server, &settings).toml());
    let _client = server.client().await;
    server.process.signal("TERM");
    eventually("it drains", async || !is_ready(&server).await).await;
    let url = server.url();
    let diagnosis = doctor(&directory, &["--server", &url]).await;
    let finding = diagnosis.only("server_not_ready");
    assert!(finding["seen"].to_string().contains("draining"), "{finding:#}");
    server.process.signal("KILL");
}

/// A server that runs in the folder of its configuration, as an operator starts it.
async fn in_its_folder(settings: &Settings) -> (Server, u16) {
    let directory = Directory::new();
    let port = free_port();
    let settings = settings.clone().server("host", quoted("127.0.0.1")).server("port", port);
    directory.write("config.toml", &settings.toml());
    let process = Process::spawn(&["start"], directory.path());
    (Server::from_process(process, directory).await, port)
}

#[tokio::test]
async fn configuration_cached_by_a_server_that_has_not_read_it_again() {
    let (server, port) = in_its_folder(&Settings::new()).await;
    let changed = Settings::without_apps().add_app("3", "a-newer-key", SECRET);
    let changed = changed.server("host", quoted("127.0.0.1")).server("port", port);
    server.directory.write("config.toml", &changed.toml());
    let diagnosis = doctor(&server.directory, &[]).await;
    let finding = diagnosis.only("configuration_cached");
    let id = server.process.id();
    assert_eq!(changes(finding), [format!("kill -HUP {id}")]);
    server.process.signal("HUP");
    let is_known = async || doctor(&server.directory, &[]).await.names().is_empty();
    eventually("the server has read it again", is_known).await;
}

#[tokio::test]
async fn descriptors_low() {
    let directory = Directory::new();
    let settings = Settings::new();
    directory.write("config.toml", &settings.toml());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 1024 && exec \"$0\" start --host 127.0.0.1 --port 0"]);
    command.arg(program()).current_dir(directory.path());
    let server = Server::from_process(Process::from_command(&mut command), directory).await;
    let url = server.url();
    let diagnosis = doctor(&server.directory, &["--server", &url]).await;
    let finding = diagnosis.only("descriptors_low");
    assert!(finding["seen"].to_string().contains("1024"), "{finding:#}");
    assert!(changes(finding)[0].contains("LimitNOFILE="), "{finding:#}");
}

fn nginx(port: u16, connections: u32) -> String {
    format!(
        "events {{ worker_connections {connections}; }}\nhttp {{\n  include sites/*.conf;\n}}\n# {port}\n"
    )
}

fn site(port: u16) -> String {
    format!(
        "server {{\n  location /app {{\n    proxy_pass http://127.0.0.1:{port};\n    proxy_http_version 1.1;\n    \
         proxy_set_header Upgrade $http_upgrade;\n  }}\n}}\n"
    )
}

#[tokio::test]
async fn proxy_port_differs_and_proxy_connections_low() {
    let server = Settings::new().start_node().await;
    let (port, url) = (server.address.port(), server.url());
    // Browsers use the host of the page, which is not known to be served by this nginx.
    let env = laravel_env(&server).replace("http://localhost", "https://app.invalid");
    let dead = free_port();
    for (passed, connections, name) in [
        (dead, 65_536, "proxy_port_differs"),
        (port, 512, "proxy_connections_low"),
        (port, 65_536, ""),
    ] {
        let directory = laravel(&env);
        std::fs::create_dir_all(directory.path().join("sites")).expect("a folder");
        directory.write("sites/ws.conf", &site(passed));
        let file = directory.write("nginx.conf", &nginx(passed, connections));
        let file = file.to_str().expect("UTF-8");
        let diagnosis = doctor(&directory, &["--server", &url, "--nginx-config", file]).await;
        if name.is_empty() {
            diagnosis.well(&["upstream"]);
            continue;
        }
        let finding = diagnosis.only(name);
        let change = &changes(finding)[0];
        if name == "proxy_port_differs" {
            assert!(
                change.ends_with(&format!("sites/ws.conf:3 proxy_pass http://127.0.0.1:{port};")),
                "{change}"
            );
        } else {
            assert!(change.contains("nginx.conf:1 worker_connections"), "{change}");
        }
        assert!(!diagnosis.report.to_string().contains(SECRET), "{KEY}");
    }
}

/// nginx in front of a server that it reaches; other parts of its files name other servers.
#[tokio::test]
async fn nothing_is_wrong_with_other_sites_spare_servers_and_ipv6() {
    let ipv6 = TcpListener::bind("[::1]:0").expect("there is IPv6");
    let of_ipv6 = ipv6.local_addr().expect("it is bound").port();
    let server = Settings::new().start_node().await;
    let (port, url) = (server.address.port(), server.url());
    let env = laravel_env(&server).replace("http://localhost", "https://app.invalid");
    let dead = free_port();
    let group = |servers: &str| format!("upstream ws {{ {servers} }} ");
    let site = |name: &str, pass: &str| {
        format!("server {{ server_name {name}; location /app {{ proxy_pass http://{pass}; }} }} ")
    };
    let location = |pass: &str| site("_", pass);
    let spare = format!("server 127.0.0.1:{dead} down; server 127.0.0.1:{dead} backup;");
    let other = site("other.example.com", &format!("127.0.0.1:{dead}"));
    let own = site("app.invalid", &format!("127.0.0.1:{port}"));
    for (http, name) in [
        (location(&format!("[::1]:{of_ipv6}")), ""),
        (group(&format!("server 127.0.0.1:{port}; {spare}")) + &location("ws"), ""),
        (
            group(&format!("server 127.0.0.1:{dead}; server 127.0.0.1:{port};")) + &location("ws"),
            "",
        ),
        (other + &own, ""),
        (group(&format!("server 127.0.0.1:{dead};")) + &location("ws"), "proxy_port_differs"),
    ] {
        let directory = laravel(&env);
        let text = format!("events {{ worker_connections 65536; }}\nhttp {{ {http} }}\n");
        let file = directory.write("nginx.conf", &text);
        let file = file.to_str().expect("UTF-8");
        let diagnosis = doctor(&directory, &["--server", &url, "--nginx-config", file]).await;
        if name.is_empty() {
            diagnosis.well(&["upstream"]);
        } else {
            diagnosis.only(name);
        }
    }
}
