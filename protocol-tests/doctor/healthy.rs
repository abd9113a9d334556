//! Setups that work, each unlike the usual one in one way: nothing must be found.

use kit::{APP_ID, Directory, KEY, Process, SECRET, Settings, free_port, quoted};

use crate::support::{
    certificates::{Authority, Kind, Wanted},
    proxies::Proxy,
};
use crate::way::{WAY, nginx, nginx_with};
use crate::{at, doctor, laravel, laravel_env, served};

#[tokio::test]
async fn a_server_on_ipv6() {
    let port = free_port();
    let settings = Settings::new().server("host", quoted("::1")).server("port", port);
    let (directory, own) = (Directory::new(), Directory::new());
    for folder in [&directory, &own] {
        folder.write("config.toml", &settings.toml());
    }
    let mut process = Process::spawn(&["start"], own.path());
    process.line("the address", |line| line.contains("listens on")).await;
    let location = format!(
        "location / {{ proxy_pass http://[::1]:{port}; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; }}"
    );
    let proxy = Proxy::nginx("", &location, None);
    for ws in [proxy.url(), format!("ws://[::1]:{port}")] {
        doctor(&directory, &["--ws", &ws, "--quick"]).await.well(&WAY);
    }
}

/// The server was started with another port than the files have.
#[tokio::test]
async fn a_server_at_the_address_for_publishes() {
    let server = Settings::new().start_node().await;
    let directory = laravel(&(laravel_env(&server) + "REVERB_SERVER_PORT=1\n"));
    doctor(&directory, &[]).await.well(&["server", "direct", "host", "api", "delivery"]);
}

#[tokio::test]
async fn the_second_of_several_apps() {
    let settings = Settings::without_apps()
        .add_app("1", "the-first-key", "the-secret-of-the-first")
        .add_app(APP_ID, KEY, SECRET);
    let server = settings.start_node().await;
    let directory = Directory::new();
    directory.write("config.toml", &at(&server, &settings).toml());
    let proxy = nginx(&server, &[], None);
    let flags = ["--app-id", APP_ID, "--ws", &proxy.url(), "--quick"];
    let diagnosis = doctor(&directory, &flags).await;
    diagnosis.well(&WAY);
    assert!(diagnosis.link("key")["text"].to_string().contains(KEY), "{:#}", diagnosis.report);
}

#[tokio::test]
async fn a_certificate_for_six_days() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let issued = authority.issue_as(Wanted { kind: Kind::ShortLived, ..Wanted::default() });
    let proxy = nginx_with(&server, "location / { include campanile.conf; }", &[], Some(&issued));
    let flags = ["--ws", &proxy.tls_url(), "--ca", &authority.file(), "--quick"];
    doctor(&directory, &flags).await.well(&WAY);
}

#[tokio::test]
async fn a_path_of_the_application() {
    let settings = Settings::new().server("path", quoted("/live"));
    let (server, directory) = served(&settings).await;
    let proxy = nginx_with(&server, "location /live/ { include campanile.conf; }", &[], None);
    doctor(&directory, &["--ws", &format!("{}/live", proxy.url())]).await.well(&WAY);
    let env = laravel_env(&server) + "REVERB_SERVER_PATH=live\n";
    doctor(&laravel(&env), &["--quick"]).await.well(&["direct", "api", "delivery"]);
}

/// A proxy marks all answers as those of PHP behind a CDN.
#[tokio::test]
async fn a_proxy_that_adds_headers() {
    let (server, directory) = served(&Settings::new()).await;
    let adds = "add_header X-Powered-By PHP/8.3 always; add_header cf-ray 8f2a always;\n\
                add_header Set-Cookie laravel_session=x always; add_header Server other always;";
    let proxy =
        nginx_with(&server, &format!("location / {{ {adds} include campanile.conf; }}"), &[], None);
    doctor(&directory, &["--ws", &proxy.url()]).await.well(&WAY);
}
