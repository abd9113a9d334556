//! The built assets of the application: which server they connect to.

use super::super::{
    assets::{self, BuiltClient},
    causes::files::{ASSETS_OUTDATED, ASSETS_USE_HOSTED_PUSHER, MIXED_CONTENT},
    finding::Finding,
    inputs::{Inputs, is_local},
    report::Outcome,
};
use std::{fs, path::PathBuf};

/// The folders of built assets, of Vite and of Mix.
const FOLDERS: [&str; 2] = ["public/build/assets", "public/js"];
/// Maximum number of files that are read, and maximum size of each in bytes.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 16 << 20;

/// A client in a file.
type Built = (String, BuiltClient);

pub(in crate::cli::doctor) fn check(inputs: &Inputs<'_>) -> Outcome {
    if !inputs.has_variables {
        return Outcome::Skipped("the variables of the application cannot be read".to_owned());
    }
    if inputs.dir.join("public/hot").exists() {
        return mixed_content(inputs).map_or_else(
            || Outcome::Skipped("Vite serves the assets: public/hot exists".to_owned()),
            Outcome::from,
        );
    }
    let built = built_clients(inputs);
    let finding =
        hosted(&built).or_else(|| outdated(inputs, &built)).or_else(|| mixed_content(inputs));
    match (finding, built.first()) {
        (Some(finding), _) => finding.into(),
        (None, Some((file, _))) => Outcome::Well(format!("{file} has the values of .env")),
        (None, None) => Outcome::Skipped("no built assets with a client here".to_owned()),
    }
}

/// The clients in the built assets, each with its file.
fn built_clients(inputs: &Inputs<'_>) -> Vec<Built> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(inputs.dir.join(folder)).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "js"));
        files.sort_unstable();
        for path in files.into_iter().take(FILES_MAX) {
            let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= BYTES_MAX);
            let Some(script) = is_small.then(|| fs::read_to_string(&path).ok()).flatten() else {
                continue;
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let of_file = assets::clients(&script).into_iter();
            found.extend(of_file.map(|client| (format!("{folder}/{name}"), client)));
        }
    }
    found
}

fn hosted(built: &[Built]) -> Option<Finding> {
    let (file, client) = built.iter().find(|(_, client)| client.is_hosted)?;
    let key = client.key.as_deref().unwrap_or_default();
    let seen = format!("{file} connects to pusher.com with the key {key}: it has no wsHost.");
    let finding = ASSETS_USE_HOSTED_PUSHER.found(seen);
    let options = "wsHost: import.meta.env.VITE_REVERB_HOST, wsPort: import.meta.env.VITE_REVERB_PORT, \
                   wssPort: import.meta.env.VITE_REVERB_PORT, forceTLS: true, enabledTransports: ['ws', 'wss']";
    Some(finding.line("resources/js/echo.js", options).command("npm run build"))
}

/// A client that was built with other values than those of today.
fn outdated(inputs: &Inputs<'_>, built: &[Built]) -> Option<Finding> {
    built
        .iter()
        .find_map(|(file, client)| {
            let (what, name, now) = difference(inputs, client)?;
            let seen =
                format!("{file} was built for {what}; {name} is {now} ({}).", inputs.place(&name));
            Some(ASSETS_OUTDATED.found(seen).command("npm run build"))
        })
        .or_else(|| local_address(inputs, built))
}

/// The first value that differs: the built one, and the variable with its value of today.
fn difference(inputs: &Inputs<'_>, client: &BuiltClient) -> Option<(String, String, String)> {
    let family = ["VITE_REVERB", "VITE_PUSHER", "MIX_PUSHER"];
    let family = family.iter().find(|family| {
        ["APP_KEY", "HOST"]
            .iter()
            .any(|part| inputs.variable(&format!("{family}_{part}")).is_some())
    });
    let names = |part: &str| {
        let of_server = match part {
            "APP_KEY" => &["REVERB_APP_KEY", "PUSHER_APP_KEY"][..],
            _ => &[],
        };
        let own = family.map(|family| format!("{family}_{part}"));
        own.into_iter().chain(of_server.iter().map(|name| (*name).to_owned()))
    };
    let now = |part: &str| names(part).find_map(|name| Some((inputs.variable(&name)?, name)));
    if let Some((key, name)) = now("APP_KEY")
        && client.key.as_ref() != Some(&key)
    {
        let built =
            client.key.as_ref().map_or("no key".to_owned(), |built| format!("the key {built}"));
        return Some((built, name, key));
    }
    let built = [
        ("HOST", client.host.clone(), "the host"),
        ("PORT", client.port.map(|port| port.to_string()), "the port"),
        (
            "SCHEME",
            client.is_tls.map(|is_tls| if is_tls { "https" } else { "http" }.to_owned()),
            "the scheme",
        ),
    ];
    built.into_iter().find_map(|(part, built, word)| {
        let (built, (value, name)) = (built?, now(part)?);
        (built != value).then(|| (format!("{word} {built}"), name, value))
    })
}

/// A client for this machine on a page that others open.
fn local_address(inputs: &Inputs<'_>, built: &[Built]) -> Option<Finding> {
    let page = inputs.page()?;
    let page_host = page.host().filter(|host| !is_local(host))?;
    let (file, client) =
        built.iter().find(|(_, client)| client.host.as_deref().is_some_and(is_local))?;
    let host = client.host.as_deref()?;
    let seen = format!("{file} was built for the host {host}, and the page is {page_host}.");
    let name = "REVERB_HOST";
    let finding =
        ASSETS_OUTDATED.found(seen).line(inputs.place(name), format!("{name}={page_host}"));
    Some(finding.command("npm run build"))
}

/// An address without TLS for a page with TLS.
fn mixed_content(inputs: &Inputs<'_>) -> Option<Finding> {
    let page = inputs.page()?;
    let address = inputs.public_address()?;
    if page.scheme_str() != Some("https") || address.is_tls {
        return None;
    }
    let finding = MIXED_CONTENT.found(format!(
        "The page is {page}, the server {} ({}).",
        address.url(),
        address.from
    ));
    if inputs.args.ws.is_some() {
        return Some(finding);
    }
    let family = if inputs.variable("REVERB_HOST").is_some() { "REVERB" } else { "PUSHER" };
    let [scheme, port] = ["SCHEME", "PORT"].map(|part| format!("{family}_{part}"));
    Some(
        finding
            .line(inputs.place(&scheme), format!("{scheme}=https"))
            .line(inputs.place(&port), format!("{port}=443"))
            .command("npm run build"),
    )
}
