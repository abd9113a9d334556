//! The built assets of the application: which server they connect to.

use super::super::{
    assets::{self, BuiltClient},
    causes::files::{ASSETS_OUTDATED, ASSETS_USE_HOSTED_PUSHER, HOST_IS_LOCAL, MIXED_CONTENT},
    finding::Finding,
    inputs::{Inputs, is_local},
    report::Outcome,
};
use std::{fs, path::PathBuf};

/// The folders of built assets, of Vite and of Mix.
const FOLDERS: [&str; 2] = ["public/build/assets", "public/js"];
/// The files of Vite that list the current assets.
const MANIFESTS: [&str; 2] = ["public/build/manifest.json", "public/build/.vite/manifest.json"];
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
        return host_is_local(inputs).or_else(|| mixed_content(inputs)).map_or_else(
            || Outcome::Skipped("Vite serves the assets: public/hot exists".to_owned()),
            Outcome::from,
        );
    }
    let built = built_clients(inputs);
    // Pages may have clients of other servers beside that of this one.
    let own = built.iter().find(|(_, client)| {
        !client.is_hosted && !client.is_without_host && difference(inputs, client).is_none()
    });
    let finding = match own {
        Some(own) => local_address(inputs, std::slice::from_ref(own)),
        None => hosted(&built).or_else(|| outdated(inputs, &built)),
    };
    let finding = finding.or_else(|| host_is_local(inputs)).or_else(|| mixed_content(inputs));
    match (finding, own) {
        (Some(finding), _) => finding.into(),
        (None, Some((file, client))) => Outcome::Well(format!(
            "{file} has the values of .env{}",
            if client.has_fallbacks {
                "; without enabledTransports, clients that fail try pusher.com"
            } else {
                ""
            }
        )),
        (None, None) => Outcome::Skipped("no built assets with a client here".to_owned()),
    }
}

/// The clients in the built assets, each with its file.
fn built_clients(inputs: &Inputs<'_>) -> Vec<Built> {
    let mut found = Vec::new();
    let manifest = MANIFESTS.iter().find_map(|file| fs::read_to_string(inputs.dir.join(file)).ok());
    for folder in FOLDERS {
        let entries = fs::read_dir(inputs.dir.join(folder)).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "js"));
        // Deploys may leave the files of older builds behind.
        if let Some(current) = manifest.as_ref().filter(|_| folder == FOLDERS[0]) {
            let name =
                |path: &PathBuf| path.file_name().and_then(|name| name.to_str().map(str::to_owned));
            files.retain(|path| name(path).is_none_or(|name| current.contains(&name)));
        }
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
            if client.is_without_host {
                let seen =
                    format!("{file} was built without a host: VITE_REVERB_HOST was not set.");
                return Some(ASSETS_OUTDATED.found(seen).command("npm run build"));
            }
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
    let page_host = page.host().filter(|host| is_public(host))?;
    let (file, client) =
        built.iter().find(|(_, client)| client.host.as_deref().is_some_and(is_local))?;
    let host = client.host.as_deref()?;
    let seen = format!("{file} was built for the host {host}, and the page is {page_host}.");
    let name = "REVERB_HOST";
    let finding =
        ASSETS_OUTDATED.found(seen).line(inputs.place(name), format!("{name}={page_host}"));
    Some(finding.command("npm run build"))
}

/// Whether others open pages of a host. Valet, Herd and the like serve `.test` and `.local` on the
/// machine of a developer.
fn is_public(host: &str) -> bool {
    let is_of_developer = [".test", ".local", ".localhost"].iter().any(|end| host.ends_with(end));
    !is_local(host) && !is_of_developer
}

/// A host of this machine for pages that others open.
fn host_is_local(inputs: &Inputs<'_>) -> Option<Finding> {
    if inputs.args.ws.is_some() {
        return None;
    }
    let page = inputs.page()?;
    let page_host = page.host().filter(|host| is_public(host))?;
    let family = ["VITE_REVERB", "VITE_PUSHER", "MIX_PUSHER"].into_iter().find(|family| {
        inputs.variable(&format!("{family}_HOST")).is_some_and(|host| is_local(&host))
    })?;
    let name = format!("{family}_HOST");
    let host = inputs.variable(&name)?;
    let place = inputs.place(&name);
    let finding = HOST_IS_LOCAL
        .found(format!("{name} is {host} ({place}), and the page is at {page_host}."))
        .line(place, format!("{name}={page_host}"));
    let is_https = page.scheme_str() == Some("https");
    let values = [
        ("PORT", if is_https { "443" } else { "80" }),
        ("SCHEME", if is_https { "https" } else { "http" }),
    ];
    let finding = values.into_iter().fold(finding, |finding, (part, value)| {
        let name = format!("{family}_{part}");
        finding.line(inputs.place(&name), format!("{name}={value}"))
    });
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
