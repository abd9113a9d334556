//! `campanile doctor` in setups that are each broken in one way. It must name that cause and no other,
//! and none in a setup that works.

mod api;
mod application;
mod auth;
mod healthy;
mod here;
mod machine;
mod proxies;
mod redis;
mod report;
mod support;
mod way;

use kit::{APP_ID, Directory, Http, KEY, Process, SECRET, Server, Settings, quoted};
use serde_json::Value;
use std::process::Command;

/// What the doctor has said.
#[derive(Debug)]
struct Diagnosis {
    code: Option<i32>,
    report: Value,
}

impl Diagnosis {
    /// The names of the causes, in the order of the report.
    fn names(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().expect("a list of findings");
        findings.iter().map(|finding| finding["id"].as_str().expect("a name")).collect()
    }

    /// Expects exactly one cause, and returns the finding.
    fn only(&self, name: &str) -> &Value {
        assert_eq!(self.names(), [name], "{:#}", self.report);
        let finding = &self.report["findings"][0];
        let code = if finding["severity"] == "broken" { 1 } else { 3 };
        assert_eq!(self.code, Some(code), "{finding:#}");
        finding
    }

    /// Expects that nothing is wrong, and that these links were checked.
    fn well(&self, links: &[&str]) {
        assert_eq!(self.names(), [""; 0], "{:#}", self.report);
        assert_eq!(self.code, Some(0), "{:#}", self.report);
        for link in links {
            assert_eq!(self.link(link)["state"], "ok", "{:#}", self.report);
        }
    }

    fn link(&self, name: &str) -> &Value {
        let links = self.report["links"].as_array().expect("a list of links");
        links.iter().find(|link| link["link"] == name).expect("a link of this name")
    }
}

/// The text of a change: the line, the command or the advice.
fn changes(finding: &Value) -> Vec<String> {
    let changes = finding["changes"].as_array().expect("a list of changes");
    let text = |change: &Value, name: &str| change[name].as_str().unwrap_or_default().to_owned();
    let line = |change: &Value| match change["place"].as_str() {
        Some(place) => format!("{place} {}", text(change, "line")),
        None => text(change, "command") + &text(change, "advice"),
    };
    changes.iter().map(line).collect()
}

/// Runs the doctor in a folder. Unless the test is about idle connections, it holds none for long.
async fn doctor(directory: &Directory, flags: &[&str]) -> Diagnosis {
    doctor_with(directory, flags, &[]).await
}

/// As [`doctor`], with environment variables.
async fn doctor_with(
    directory: &Directory,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Diagnosis {
    let is_about_idle = flags.iter().any(|flag| ["--quick", "--wait-idle"].contains(flag));
    let idle = if is_about_idle { &[][..] } else { &["--wait-idle", "1"] };
    let arguments = [&["doctor", "--json"], flags, idle].concat();
    let mut process = Process::spawn_with(&arguments, directory.path(), environment);
    let code = process.exit_code().await;
    let output = process.stream("out");
    let report = serde_json::from_str(&output);
    let report = report.unwrap_or_else(|_| panic!("no report: {output} {}", process.stream("err")));
    Diagnosis { code, report }
}

/// A running server with the test app, and a folder whose `config.toml` has its address.
async fn served(settings: &Settings) -> (Server, Directory) {
    let server = settings.start_node().await;
    let directory = Directory::new();
    directory.write("config.toml", &at(&server, settings).toml());
    (server, directory)
}

/// Whether a node takes traffic.
async fn is_ready(server: &Server) -> bool {
    Http::plain(server.address, "GET", "/ready", &[]).await.status == 200
}

/// The settings with the address of a server.
fn at(server: &Server, settings: &Settings) -> Settings {
    let port = server.address.port();
    settings.clone().server("host", quoted("127.0.0.1")).server("port", port)
}

/// The `.env` of an application of Laravel that uses a server directly.
fn laravel_env(server: &Server) -> String {
    let port = server.address.port();
    format!(
        "APP_URL=http://localhost\nBROADCAST_CONNECTION=reverb\nREVERB_APP_ID={APP_ID}\nREVERB_APP_KEY={KEY}\n\
         REVERB_APP_SECRET={SECRET}\nREVERB_HOST=127.0.0.1\nREVERB_PORT={port}\nREVERB_SCHEME=http\n"
    )
}

/// An application of Laravel, as far as the doctor looks at it, with a `.env`.
fn laravel(env: &str) -> Directory {
    let directory = Directory::new();
    directory.write("artisan", "#!/usr/bin/env php\n");
    directory.write(".env", env);
    directory
}

/// The folder that a command runs in, without variables that configure a server.
fn command(directory: &Directory) -> Command {
    let mut command = Command::new(kit::program());
    command.current_dir(directory.path());
    command
}
