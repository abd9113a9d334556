//! Rejects options with which nothing can be checked, so that no report calls them well.

use super::inputs::Inputs;
use hyper::Uri;
use std::fs;

/// The text of an option, or that of the file that `@FILE` names: other users of the machine see options.
pub(super) fn text_or_file(text: &str) -> Result<String, String> {
    let Some(file) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let text =
        fs::read_to_string(file).map_err(|error| format!("cannot read the file: {error}"))?;
    Ok(text.trim_end().to_owned())
}

/// What is wrong with the options, as a sentence.
pub(super) fn check(inputs: &Inputs<'_>) -> Result<(), String> {
    let args = inputs.args;
    let web = &["https", "http"][..];
    check_url("--ws", args.ws.as_ref(), &["wss", "ws", "https", "http"])?;
    check_url("--url", args.url.as_ref(), web)?;
    check_url("--server", args.server.as_ref(), web)?;
    check_url("--auth-endpoint", args.auth_endpoint.as_ref(), web)?;
    let is_header =
        |line: &&String| line.split_once(':').is_some_and(|(name, _)| !name.trim().is_empty());
    if !args.header.iter().all(|line| is_header(&line)) {
        // The value may be a secret.
        return Err("--header must be NAME: VALUE".to_owned());
    }
    let nginx = args.nginx_config.as_ref().map(|path| path.display().to_string());
    for (option, path) in [("--ca", args.ca.clone()), ("--nginx-config", nginx)] {
        if let Some(path) = path
            && let Err(error) = fs::read(&path)
        {
            return Err(format!("{option} {path} cannot be read: {error}"));
        }
    }
    match (&args.app_id, inputs.app(), &inputs.loaded) {
        (Some(id), None, Ok(_)) => Err(format!(
            "--app-id {id} is no app of the configuration or of the application's variables"
        )),
        _ => Ok(()),
    }
}

fn check_url(option: &str, url: Option<&Uri>, schemes: &[&str]) -> Result<(), String> {
    let is_whole = |url: &Uri| {
        url.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && url.host().is_some_and(|host| !host.is_empty())
    };
    if url.is_none_or(is_whole) {
        return Ok(());
    }
    let [first, second] = [schemes[0], schemes[1]];
    Err(format!("{option} must begin with {first}:// or {second}://, and have a host"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::DoctorArgs;
    use clap::{Args as _, FromArgMatches as _};

    /// The options of a command line.
    pub(in crate::cli::doctor) fn args(flags: &[&str]) -> DoctorArgs {
        let command = DoctorArgs::augment_args(clap::Command::new("doctor"));
        let matches = command.get_matches_from([&["doctor"], flags].concat());
        DoctorArgs::from_arg_matches(&matches).unwrap()
    }
}
