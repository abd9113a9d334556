//! The configuration of the server and the variables of the application.

use super::{
    super::{
        causes::local::{BROADCASTING_NOT_CONFIGURED, CONFIGURATION_INVALID, HOST_IS_BIND_ADDRESS},
        finding::Finding,
        inputs::Inputs,
        report::Outcome,
    },
    cached::configuration_cached,
};
use crate::config::Loaded;
use std::{fs, net::IpAddr, path::Path};

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
    findings.extend(host_is_bind_address(inputs));
    findings.extend(broadcasting(inputs));
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

/// An address to listen on in place of one to connect to.
fn host_is_bind_address(inputs: &Inputs<'_>) -> Option<Finding> {
    let names = ["REVERB_HOST", "VITE_REVERB_HOST", "PUSHER_HOST", "VITE_PUSHER_HOST"];
    let (name, host) = inputs.first_of(&names)?;
    let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
    if !address.is_unspecified() {
        return None;
    }
    let app_host = inputs.variable("APP_URL").and_then(|url| {
        let url: hyper::Uri = url.parse().ok()?;
        url.host().map(str::to_owned)
    });
    let host = app_host.unwrap_or_else(|| "localhost".to_owned());
    let finding = HOST_IS_BIND_ADDRESS.found(format!("{name} is {address}."));
    Some(finding.line(inputs.place(name), format!("{name}={host}")))
}

/// Another way of broadcasting than this server, in an application of Laravel.
fn broadcasting(inputs: &Inputs<'_>) -> Option<Finding> {
    if !inputs.dir.join("artisan").exists() || !inputs.has_variables {
        return None;
    }
    let names = ["BROADCAST_CONNECTION", "BROADCAST_DRIVER"];
    let (name, value) = match inputs.first_of(&names) {
        Some((name, value)) => (name, value),
        None if has_default(&inputs.dir) => return None,
        None => (names[0], String::new()),
    };
    let seen = match value.as_str() {
        "" => format!("{name} is not set, which means null."),
        "null" | "log" => format!("{name} is {value}."),
        _other => return None,
    };
    let connection = if inputs.variable("REVERB_APP_KEY").is_some() { "reverb" } else { "pusher" };
    let finding = BROADCASTING_NOT_CONFIGURED.found(seen);
    Some(finding.line(inputs.place(name), format!("{name}={connection}")))
}

/// Whether the application broadcasts without a variable: by the default in its own
/// `config/broadcasting.php`.
fn has_default(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join("config/broadcasting.php")).unwrap_or_default();
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
