//! The configuration of the server and the variables of the application.

use super::{
    super::{
        causes::{
            files::{ADDRESS_INVALID, BROWSER_KEY_DIFFERS, REVERB_PHP_DIFFERS},
            local::{BROADCASTING_NOT_CONFIGURED, CONFIGURATION_INVALID, HOST_IS_BIND_ADDRESS},
        },
        finding::Finding,
        inputs::Inputs,
        report::Outcome,
    },
    cached::configuration_cached,
};
use crate::config::Loaded;
use std::{fs, net::IpAddr, path::Path};

/// The beginnings of the variables that have an address of the server.
const FAMILIES: [&str; 5] = ["REVERB", "PUSHER", "VITE_REVERB", "VITE_PUSHER", "MIX_PUSHER"];

pub(in crate::cli::doctor) fn check(inputs: &Inputs<'_>) -> Outcome {
    let mut findings: Vec<Finding> = Vec::new();
    let seen = match &inputs.loaded {
        Ok(loaded) => read_from(loaded),
        Err(error) => {
            let mut lines = error.lines();
            let finding = CONFIGURATION_INVALID.found(lines.next().unwrap_or_default());
            findings
                .push(lines.fold(finding, |finding, line| finding.advice(format!("Also: {line}"))));
            String::new()
        }
    };
    // One mistake in the address has one cause.
    let of_address = address_invalid(inputs).or_else(|| host_is_bind_address(inputs));
    findings.extend(of_address);
    findings.extend(browser_key_differs(inputs));
    findings.extend(broadcasting(inputs));
    findings.extend(reverb_php(inputs));
    findings.extend(configuration_cached(inputs));
    Outcome::of(findings, seen)
}

/// What the configuration was read from, in words.
fn read_from(loaded: &Loaded) -> String {
    let names: Vec<_> = loaded.files.paths().map(|path| path.display().to_string()).collect();
    let names = if names.is_empty() { "no files".to_owned() } else { names.join(", ") };
    let app = if loaded.is_development() { "; the development app" } else { "" };
    let warnings = match loaded.warnings.len() {
        0 => String::new(),
        1 => "; a warning: campanile check".to_owned(),
        count => format!("; {count} warnings: campanile check"),
    };
    format!("read from {names}{app}{warnings}")
}

/// What `config/reverb.php` sets and the server does not use: it reads the variables alone.
fn reverb_php(inputs: &Inputs<'_>) -> Option<Finding> {
    let loaded = inputs.loaded.as_ref().ok()?;
    let mut differences =
        loaded.warnings.iter().filter(|warning| warning.starts_with("config/reverb.php:"));
    let finding =
        REVERB_PHP_DIFFERS.found(format!("{}.", differences.next()?.trim_end_matches('.')));
    let finding =
        differences.fold(finding, |finding, more| finding.advice(format!("Also: {more}")));
    Some(finding.command("campanile import"))
}

/// An address to listen on in place of one to connect to.
fn host_is_bind_address(inputs: &Inputs<'_>) -> Option<Finding> {
    let is_unspecified = |host: &str| {
        host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
    };
    let (name, host) = FAMILIES.into_iter().find_map(|family| {
        let name = format!("{family}_HOST");
        let host = inputs.variable(&name).filter(|host| is_unspecified(host))?;
        Some((name, host))
    })?;
    let app_host = inputs.page().and_then(|url| url.host().map(str::to_owned));
    let right = app_host.unwrap_or_else(|| "localhost".to_owned());
    let finding =
        HOST_IS_BIND_ADDRESS.found(format!("{name} is {host} ({}).", inputs.place(&name)));
    Some(finding.line(inputs.place(&name), format!("{name}={right}")))
}

/// A value from which no address can be made.
fn address_invalid(inputs: &Inputs<'_>) -> Option<Finding> {
    FAMILIES.into_iter().find_map(|family| {
        ["HOST", "PORT", "SCHEME"].into_iter().find_map(|part| {
            let name = format!("{family}_{part}");
            let value = inputs.variable(&name)?;
            let (why, right) = match part {
                "HOST" => host_fault(&value),
                "PORT" => port_fault(&value),
                _scheme => scheme_fault(&value),
            }?;
            let place = inputs.place(&name);
            let finding = ADDRESS_INVALID.found(format!("{name} is {value} ({place}): {why}."));
            Some(if right.is_empty() {
                finding
            } else {
                finding.line(place, format!("{name}={right}"))
            })
        })
    })
}

/// What is wrong with a value, and the right one if it can be told.
type Fault = (&'static str, String);

/// Why a value is no host, and the host in it.
fn host_fault(value: &str) -> Option<Fault> {
    if value.contains("${") {
        return Some(("the variable in it is not set", String::new()));
    }
    if let Some((_scheme, rest)) = value.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let host = host_fault(authority).map_or(authority.to_owned(), |(_, host)| host);
        return Some(("it is a URL, and not a host", host));
    }
    if let Some((host, _path)) = value.split_once('/') {
        return Some(("it has a path", host_fault(host).map_or(host.to_owned(), |(_, host)| host)));
    }
    let is_ipv6 = value.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok();
    match value.rsplit_once(':') {
        Some((host, _port)) if !is_ipv6 => {
            Some(("it has a port, which is a value of its own", host.to_owned()))
        }
        Some(_) => None,
        None => value.contains(char::is_whitespace).then(|| ("it has white space", String::new())),
    }
}

fn port_fault(value: &str) -> Option<Fault> {
    let is_port = value.parse::<u16>().is_ok_and(|port| 0 < port);
    (!is_port).then(|| ("it is no port", String::new()))
}

fn scheme_fault(value: &str) -> Option<Fault> {
    match value.to_ascii_lowercase().as_str() {
        "http" | "https" => None,
        "wss" => Some(("publishes need http or https", "https".to_owned())),
        "ws" => Some(("publishes need http or https", "http".to_owned())),
        _other => Some(("it is neither http nor https", String::new())),
    }
}

/// A key for browsers that is not that of the application.
fn browser_key_differs(inputs: &Inputs<'_>) -> Option<Finding> {
    let app = inputs.app()?;
    let names = ["VITE_REVERB_APP_KEY", "VITE_PUSHER_APP_KEY", "MIX_PUSHER_APP_KEY"];
    let (name, key) = inputs.first_of(&names)?;
    let is_configured = inputs
        .config()
        .is_some_and(|config| config.apps.iter().any(|configured| configured.key == key));
    if key == app.key || is_configured {
        return None;
    }
    let finding = BROWSER_KEY_DIFFERS.found(format!(
        "{name} is {key} ({}), and the application publishes with {}.",
        inputs.place(name),
        app.key
    ));
    Some(finding.line(inputs.place(name), format!("{name}={}", app.key)).command("npm run build"))
}

/// Another way of broadcasting than this server, in an application of Laravel.
fn broadcasting(inputs: &Inputs<'_>) -> Option<Finding> {
    if !inputs.is_laravel() || !inputs.has_variables {
        return None;
    }
    let names = ["BROADCAST_CONNECTION", "BROADCAST_DRIVER"];
    let (name, value) = match inputs.first_of(&names) {
        Some((name, value)) => (name, value),
        None if has_default(&inputs.dir) => return None,
        None => (names[0], String::new()),
    };
    let (seen, connection) = match value.as_str() {
        "" => (format!("{name} is not set, which means null."), of_variables(inputs)),
        "reverb" | "pusher" => {
            let family = value.to_ascii_uppercase();
            let key = format!("{family}_APP_KEY");
            let other = of_variables(inputs);
            // The application's own file may name other variables.
            let is_own = broadcasting_file(&inputs.dir).is_some_and(|text| !text.contains(&key));
            if other == value || is_own || inputs.variable(&key).is_some() {
                return None;
            }
            (format!("{name} is {value}, and {key} is not set."), other)
        }
        other if is_own_connection(&inputs.dir, other) => return None,
        other => (format!("{name} is {other}."), of_variables(inputs)),
    };
    let finding = BROADCASTING_NOT_CONFIGURED.found(seen);
    Some(finding.line(inputs.place(name), format!("{name}={connection}")))
}

/// The connection whose variables are set.
fn of_variables(inputs: &Inputs<'_>) -> &'static str {
    let has = |name: &str| inputs.variable(name).is_some();
    if has("PUSHER_APP_KEY") && !has("REVERB_APP_KEY") { "pusher" } else { "reverb" }
}

fn broadcasting_file(dir: &Path) -> Option<String> {
    fs::read_to_string(dir.join("config/broadcasting.php")).ok()
}

/// Whether the application has a connection of this name with a driver for this server.
fn is_own_connection(dir: &Path, name: &str) -> bool {
    let text = broadcasting_file(dir).unwrap_or_default();
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((_, rest)) = text.split_once(&format!("'{name}'=>[")) else { return false };
    let driver = rest.split_once("'driver'=>").map(|(_, driver)| driver).unwrap_or_default();
    ["'reverb'", "'pusher'"].iter().any(|name| driver.starts_with(name))
}

/// Whether the application broadcasts without a variable: by the default in its own
/// `config/broadcasting.php`.
fn has_default(dir: &Path) -> bool {
    let text = broadcasting_file(dir).unwrap_or_default();
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((_, rest)) = text.split_once("'default'=>") else { return false };
    let value = rest.split(['\n', ';']).next().unwrap_or_default();
    let default = value
        .strip_prefix("env(")
        .map_or(value, |call| call.split_once(',').map_or("", |(_name, default)| default));
    ["'reverb'", "'pusher'"].iter().any(|name| default.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_alone() {
        for (value, right) in [
            ("http://ws.example.com:8080/x", Some("ws.example.com")),
            ("127.0.0.1:8080", Some("127.0.0.1")),
            ("ws.example.com/ws", Some("ws.example.com")),
            ("${APP_HOST}", Some("")),
            ("ws example", Some("")),
            ("ws.example.com", None),
            ("::1", None),
            ("[fd00::1]", None),
            ("localhost", None),
        ] {
            assert_eq!(host_fault(value).map(|(_, right)| right).as_deref(), right, "{value}");
        }
        for (value, is_port) in [("443", true), ("0", false), ("abc", false), ("65536", false)] {
            assert_eq!(port_fault(value).is_none(), is_port, "{value}");
        }
        for (value, right) in [
            ("https", None),
            ("HTTP", None),
            ("wss", Some("https")),
            ("ws", Some("http")),
            ("x", Some("")),
        ] {
            assert_eq!(scheme_fault(value).map(|(_, right)| right).as_deref(), right, "{value}");
        }
    }

    #[test]
    fn a_default_of_the_application_is_read_without_php() {
        let dir = std::env::temp_dir().join(format!("campanile-doctor-{}", std::process::id()));
        fs::create_dir_all(dir.join("config")).unwrap();
        for (line, expected) in [
            ("'default' => env('BROADCAST_CONNECTION', 'reverb'),", true),
            ("'default'=>'pusher',", true),
            ("'default' => env('BROADCAST_CONNECTION', 'null'),", false),
            ("'default' => env('BROADCAST_CONNECTION'),", false),
            ("'connections' => ['reverb' => []],", false),
        ] {
            let text = format!("<?php\nreturn [\n    {line}\n    'connections' => [],\n];\n");
            fs::write(dir.join("config/broadcasting.php"), text).unwrap();
            assert_eq!(has_default(&dir), expected, "{line}");
        }
        fs::remove_dir_all(&dir).unwrap();
        assert!(!has_default(&dir));
    }
}
