//! The files of `deploy` that `campanile init` writes on request, with the paths and the port of the
//! new configuration.

use std::{fmt::Display, path::Path};

const SERVICE: &str = include_str!("../../../deploy/systemd/campanile.service");
const SOCKET: &str = include_str!("../../../deploy/systemd/campanile.socket");
const SYSUSERS: &str = include_str!("../../../deploy/systemd/sysusers.conf");
const COMPOSE: &str = include_str!("../../../deploy/compose/compose.yaml");
const COMPOSE_CONFIG: &str = include_str!("../../../deploy/compose/config.toml");
const NGINX: &str = include_str!("../../../deploy/compose/nginx.conf");
const ENVIRONMENT: &str = include_str!("../../../deploy/compose/example.env");

/// A file to write.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: String,
    /// Whether only the owner may read it.
    pub(super) is_secret: bool,
}

/// Folders that the sandbox of the service hides: `ProtectHome` and `PrivateTmp`.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

impl File {
    fn public(name: &'static str, text: String) -> Self {
        Self { name, text, is_secret: false }
    }
}

/// The values of the Compose files.
#[derive(Debug)]
pub(super) struct ComposeValues<'a> {
    pub(super) port: &'a str,
    pub(super) app_id: u32,
    pub(super) key: &'a str,
    pub(super) secret: &'a str,
    /// The allowed origins, as an array of TOML.
    pub(super) origins: &'a str,
    /// A new password of letters and digits for Redis.
    pub(super) redis_password: &'a str,
}

/// The units of systemd and their user, for this program, configuration file and port.
///
/// # Errors
///
/// A path has characters that are special in a unit.
pub(super) fn units(program: &Path, config: &Path, port: &str) -> Result<[File; 3], String> {
    let (program, config) = (in_unit(program)?, in_unit(config)?);
    let service = with(SERVICE, "/usr/local/bin/campanile", program);
    let service = with(&service, "/etc/campanile/config.toml", config);
    let socket = with(SOCKET, "ListenStream=8080", format_args!("ListenStream={port}"));
    Ok([
        File::public("campanile.service", service),
        File::public("campanile.socket", socket),
        File::public("sysusers.conf", SYSUSERS.to_owned()),
    ])
}

/// Whether the sandbox of the service hides a path.
pub(super) fn is_hidden(path: &Path) -> bool {
    HIDDEN.iter().any(|folder| path.starts_with(folder))
}

fn in_unit(path: &Path) -> Result<&str, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-@:=,".contains(c);
    path.to_str().filter(|path| path.chars().all(is_plain)).ok_or_else(|| {
        format!("{}: a path in a unit may have letters, digits and /._+-@:=, only", path.display())
    })
}

/// Two nodes, Redis and nginx as containers.
pub(super) fn compose(values: &ComposeValues<'_>) -> [File; 4] {
    let file = with(COMPOSE, "  build: ../..\n", "");
    let steps = "#   cp example.env .env                         and fill it in\n";
    let file = with(
        &file,
        steps,
        "#   docker build --tag campanile SOURCE         the image, of the repository\n",
    );
    let file = with(&file, "docker compose up --detach --build\n", "docker compose up --detach\n");
    let file = with(&file, "docker compose build\n", "docker build --tag campanile SOURCE\n");
    let config = with(COMPOSE_CONFIG, "id = \"1\"", format_args!("id = \"{}\"", values.app_id));
    let origins = r#"["example.com", "*.example.com"]"#;
    let config = with(&config, origins, values.origins);
    let config = with(&config, "[server]\n", format_args!("[server]\nport = {}\n", values.port));
    let nginx = with(NGINX, ":8080 ", format_args!(":{} ", values.port));
    let (_comment, names) = ENVIRONMENT.split_once("\n\n").expect("the example has a comment");
    let mut environment = format!("{names}\n");
    for (name, value) in [
        ("CAMPANILE_KEY", values.key),
        ("CAMPANILE_SECRET", values.secret),
        ("REDIS_PASSWORD", values.redis_password),
    ] {
        let (empty, filled) = (format!("{name}=\n"), format!("{name}={value}\n"));
        environment = with(&environment, &empty, filled);
    }
    [
        File::public("compose.yaml", file),
        File::public("config.toml", config),
        File::public("nginx.conf", nginx),
        File { name: ".env", text: environment.trim_end().to_owned() + "\n", is_secret: true },
    ]
}

/// `text` with each `from` replaced, of which there is at least one.
fn with(text: &str, from: &str, to: impl Display) -> String {
    debug_assert!(text.contains(from), "{from}");
    text.replace(from, &to.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_the_program_the_configuration_and_the_port() {
        let (program, config) = (Path::new("/opt/campanile"), Path::new("/srv/c/config.toml"));
        let [service, socket, user] = units(program, config, "9000").unwrap();
        let start = "\nExecStart=/opt/campanile start --config /srv/c/config.toml\n";
        assert!(service.text.contains(start), "{}", service.text);
        assert!(
            !service.text.contains("/usr/local/bin/") && !service.text.contains("/etc/campanile")
        );
        assert!(socket.text.contains("\nListenStream=9000\n"), "{}", socket.text);
        assert_eq!((user.name, user.text.as_str()), ("sysusers.conf", SYSUSERS));
        for path in ["/a b", "/a%b", "/a$b", "/ä", "/a\nb"] {
            assert!(units(program, Path::new(path), "1").is_err(), "{path}");
        }
    }

    #[test]
    fn the_sandbox_hides_homes_and_temporary_files() {
        for (path, hidden) in [
            ("/home/a/config.toml", true),
            ("/root/config.toml", true),
            ("/tmp/config.toml", true),
            ("/etc/campanile/config.toml", false),
            ("/homes/config.toml", false),
        ] {
            assert_eq!(is_hidden(Path::new(path)), hidden, "{path}");
        }
    }

    #[test]
    fn the_files_of_compose_are_filled_in() {
        let values = ComposeValues {
            port: "9000",
            app_id: 123_456,
            key: "k1",
            secret: "s1",
            origins: r#"["a.test"]"#,
            redis_password: "p1",
        };
        let [file, config, nginx, environment] = compose(&values);
        assert!(!file.text.contains("build:") && !file.text.contains("--build"), "{}", file.text);
        assert!(!file.text.contains("example.env"), "{}", file.text);
        let table: toml::Table = config.text.parse().unwrap();
        assert_eq!(table["server"]["port"].as_integer(), Some(9_000));
        assert_eq!(table["apps"][0]["id"].as_str(), Some("123456"));
        assert_eq!(table["apps"][0]["allowed_origins"][0].as_str(), Some("a.test"));
        assert_eq!(nginx.text.matches(":9000 max_fails").count(), 2);
        let lines: Vec<_> = environment
            .text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect();
        assert_eq!(lines, ["CAMPANILE_KEY=k1", "CAMPANILE_SECRET=s1", "REDIS_PASSWORD=p1"]);
        assert!(environment.is_secret && !file.is_secret);
    }
}
