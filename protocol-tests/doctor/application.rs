//! Causes in the files of an application: built assets, cached configuration, the queue.

use crate::{Diagnosis, changes, doctor, laravel, laravel_env};
use kit::{Directory, KEY, Server, Settings};

/// An application with the address of a server for browsers, and its built assets.
struct Application {
    server: Server,
    env: String,
}

impl Application {
    async fn new() -> Self {
        let server = Settings::new().start_node().await;
        let env = laravel_env(&server)
            + "VITE_REVERB_APP_KEY=\"${REVERB_APP_KEY}\"\nVITE_REVERB_HOST=\"${REVERB_HOST}\"\n\
               VITE_REVERB_PORT=\"${REVERB_PORT}\"\nVITE_REVERB_SCHEME=\"${REVERB_SCHEME}\"\n";
        Self { server, env }
    }

    fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Assets as Vite builds them.
    fn script(&self) -> String {
        let port = self.port();
        format!(
            "var a=1;window.Echo=new e({{broadcaster:\"reverb\",key:\"{KEY}\",wsHost:\"127.0.0.1\",wsPort:\"{port}\",\
             wssPort:\"{port}\",forceTLS:!1,enabledTransports:[\"ws\",\"wss\"]}});"
        )
    }

    async fn doctor(&self, script: &str) -> Diagnosis {
        self.doctor_with(script, |_| {}).await
    }

    async fn doctor_with(&self, script: &str, change: impl FnOnce(&Directory)) -> Diagnosis {
        let directory = laravel(&self.env);
        std::fs::create_dir_all(directory.path().join("public/build/assets")).expect("a folder");
        directory.write("public/build/assets/app-4ed993c7.js", script);
        change(&directory);
        let url = self.server.url();
        doctor(&directory, &["--server", &url]).await
    }
}

#[tokio::test]
async fn nothing_is_wrong_with_current_assets() {
    let application = Application::new().await;
    let diagnosis = application.doctor(&application.script()).await;
    diagnosis.well(&["assets", "direct", "host", "limits"]);
}

#[tokio::test]
async fn assets_outdated_with_another_key_host_or_port() {
    let application = Application::new().await;
    let port = application.port().to_string();
    for (now, built, seen) in [
        (KEY, "an-older-key", "the key an-older-key; VITE_REVERB_APP_KEY is"),
        (
            "127.0.0.1",
            "old.example.com",
            "the host old.example.com; VITE_REVERB_HOST is 127.0.0.1 (.env:10)",
        ),
        (&port, "6001", "the port 6001; VITE_REVERB_PORT is"),
        ("forceTLS:!1", "forceTLS:!0", "the scheme https; VITE_REVERB_SCHEME is http"),
    ] {
        let diagnosis = application.doctor(&application.script().replace(now, built)).await;
        let finding = diagnosis.only("assets_outdated");
        assert!(finding["seen"].as_str().is_some_and(|text| text.contains(seen)), "{finding:#}");
        assert_eq!(changes(finding), ["npm run build"]);
    }
}

#[tokio::test]
async fn assets_outdated_if_they_were_built_for_this_machine_and_the_page_is_public() {
    let mut application = Application::new().await;
    application.env = application.env.replace("http://localhost", "http://app.example.com");
    let diagnosis = application.doctor(&application.script()).await;
    let finding = diagnosis.only("assets_outdated");
    assert_eq!(changes(finding), [".env:6 REVERB_HOST=app.example.com", "npm run build"]);
}

#[tokio::test]
async fn assets_use_hosted_pusher() {
    let application = Application::new().await;
    let script =
        format!("new e({{broadcaster:\"pusher\",key:\"{KEY}\",cluster:\"mt1\",forceTLS:!0}})");
    let diagnosis = application.doctor(&script).await;
    let finding = diagnosis.only("assets_use_hosted_pusher");
    assert!(finding["seen"].to_string().contains("app-4ed993c7.js"), "{finding:#}");
}

/// Files of an older build, and clients of other servers on the same page.
#[tokio::test]
async fn nothing_is_wrong_with_older_files_and_other_clients() {
    let application = Application::new().await;
    let script = application.script();
    let mut of_developer = Application::new().await;
    of_developer.env = of_developer.env.replace("http://localhost", "http://shop.test");
    of_developer.doctor(&of_developer.script()).await.well(&["assets"]);
    let other = format!("{script}new Pusher(\"of-a-widget\",{{cluster:\"mt1\"}});");
    application.doctor(&other).await.well(&["assets"]);
    let older = script.replace(KEY, "an-older-key");
    let manifest = r#"{"resources/js/app.js":{"file":"assets/app-4ed993c7.js","isEntry":true}}"#;
    let write = |directory: &Directory| {
        directory.write("public/build/assets/app-00000000.js", &older);
        directory.write("public/build/manifest.json", manifest);
    };
    application.doctor_with(&script, write).await.well(&["assets"]);
    let diagnosis = application.doctor_with(&older, |directory| {
        directory.write("public/build/assets/app-00000000.js", &script);
        directory.write("public/build/manifest.json", manifest);
    });
    diagnosis.await.only("assets_outdated");
    let fallbacks = script.replace(",enabledTransports:[\"ws\",\"wss\"]", "");
    let diagnosis = application.doctor(&fallbacks).await;
    diagnosis.well(&["assets"]);
    assert!(diagnosis.link("assets")["text"].to_string().contains("enabledTransports"));
}

#[tokio::test]
async fn assets_outdated_without_a_host() {
    let application = Application::new().await;
    let script = application.script().replace("wsHost:\"127.0.0.1\"", "wsHost:void 0");
    let diagnosis = application.doctor(&script).await;
    let finding = diagnosis.only("assets_outdated");
    assert!(finding["seen"].to_string().contains("built without a host"), "{finding:#}");
}

#[tokio::test]
async fn mixed_content() {
    let mut application = Application::new().await;
    application.env = application.env.replace("http://localhost", "https://localhost");
    let diagnosis = application.doctor(&application.script()).await;
    let finding = diagnosis.only("mixed_content");
    let lines = [".env:8 REVERB_SCHEME=https", ".env:7 REVERB_PORT=443", "npm run build"];
    assert_eq!(changes(finding), lines);
}

#[tokio::test]
async fn configuration_cached() {
    let application = Application::new().await;
    let cache = |key: &str| {
        let env = |name: &str| {
            let line = application.env.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a variable").to_owned()
        };
        let (id, secret) = (env("REVERB_APP_ID="), env("REVERB_APP_SECRET="));
        let text = format!(
            "<?php return array ('reverb' => array ('key' => '{key}', 'secret' => '{secret}', 'app_id' => '{id}', \
             'options' => array ('host' => '127.0.0.1')));"
        );
        move |directory: &Directory| {
            std::fs::create_dir_all(directory.path().join("bootstrap/cache")).expect("a folder");
            directory.write("bootstrap/cache/config.php", &text);
        }
    };
    let script = application.script();
    let diagnosis = application.doctor_with(&script, cache("an-older-key")).await;
    let finding = diagnosis.only("configuration_cached");
    assert!(finding["seen"].to_string().contains("REVERB_APP_KEY in .env:4"), "{finding:#}");
    assert_eq!(changes(finding), ["php artisan config:clear"]);
    application.doctor_with(&script, cache(KEY)).await.well(&["configuration"]);
}

#[tokio::test]
async fn queue_worker_not_running() {
    let mut application = Application::new().await;
    application.env += "QUEUE_CONNECTION=database\n";
    let script = application.script();
    application.doctor(&script).await.only("queue_worker_not_running");
    // A process with these arguments; the shell reads no file.
    let arguments = ["-c", "read line", "artisan", "queue:work"];
    let mut command = std::process::Command::new("sh");
    command.args(arguments).stdin(std::process::Stdio::piped());
    let mut worker = command.spawn().expect("there is a shell");
    let diagnosis = application.doctor(&script).await;
    worker.kill().expect("it runs");
    worker.wait().expect("it has ended");
    diagnosis.well(&["queue"]);
}
