//! Whether the running server has read the current configuration.

use super::super::{
    causes::files::CONFIGURATION_CACHED, finding::Finding, inputs::Inputs, machine,
};
use std::path::Path;

/// A file of the configuration that was changed after the server of this folder had started.
/// Asked only when the server does not know what is in the file: a server may have read it again.
pub(in crate::cli::doctor) fn not_read_again(inputs: &Inputs<'_>) -> Option<Finding> {
    let loaded = inputs.loaded.as_ref().ok().filter(|_| inputs.args.server.is_none())?;
    let process = machine::listener(loaded.config.server.port)?;
    let started_at = machine::started_at(process.id)?;
    let server_dir = machine::working_directory(process.id)?;
    let arguments = machine::arguments(process.id);
    // The server reads this file: it runs in this folder, or is given the file.
    let is_read = |path: &Path| {
        let Ok(path) = inputs.dir.join(path).canonicalize() else { return false };
        let is_argument =
            |word: &String| server_dir.join(word).canonicalize().is_ok_and(|named| named == path);
        path.parent() == Some(&server_dir) || arguments.iter().any(is_argument)
    };
    let is_changed = |path: &&Path| {
        let changed_at = machine::changed_at(&inputs.dir.join(path));
        is_read(path) && changed_at.is_some_and(|changed_at| started_at < changed_at)
    };
    let path = loaded.files.paths().find(is_changed)?.display().to_string();
    let id = process.id;
    let finding = CONFIGURATION_CACHED
        .found(format!("{path} was changed after the server (process {id}) had read it."));
    // A reload reads config.toml and .env, but not the environment of the process.
    Some(finding.command(format!("kill -HUP {id}")))
}
