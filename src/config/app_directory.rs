//! Reads apps from the files of a folder: `apps.d`.

use super::{
    apps,
    error::{ConfigError, ErrorCollector},
    file,
    files::Files,
    key::KeyPath,
    raw_config::{RawConfig, SourcedValue},
    value_source::ValueSource,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The setting that names the folder.
pub(super) const DIRECTORY: &str = "apps_from.directory";
/// The folder that is read if none is named, beside the configuration file.
const DEFAULT: &str = "apps.d";
/// Maximum number of files. Each may have any number of apps.
const FILES_MAX: usize = 10_000;

/// Writes the apps in the folder's files into `raw`, after those that it has. `beside` is the folder
/// of the configuration file.
///
/// # Errors
///
/// The named folder, or a file in it, cannot be read or is invalid, or the folder has no files any
/// more and had some `before`.
pub(super) fn read(
    beside: &Path,
    before: &Files,
    raw: &mut RawConfig,
    files: &mut Files,
) -> Result<(), ConfigError> {
    let setting = raw.get(&KeyPath::new(DIRECTORY));
    let chosen = setting.and_then(|setting| setting.value.as_str()).filter(|path| !path.is_empty());
    let (path, name) = match chosen {
        Some(chosen) => (PathBuf::from(chosen), chosen.trim_end_matches('/').to_owned()),
        None => (beside.join(DEFAULT), DEFAULT.to_owned()),
    };
    let file_names = match toml_files(&path) {
        Ok(names) => names,
        Err(error) if is_missing(&error) && chosen.is_none() => Vec::new(),
        Err(error) => {
            let message = format!("`{name}` cannot be read: {error}");
            return Err(ConfigError::key(
                &raw.source(&KeyPath::new(DIRECTORY)),
                DIRECTORY,
                message,
            ));
        }
    };
    if file_names.is_empty() && before.has_any_in(&path) {
        let message = "no longer contains files";
        return Err(ConfigError::at(&name, message));
    }
    if FILES_MAX < file_names.len() {
        return Err(ConfigError::at(&name, format!("has more than {FILES_MAX} files")));
    }
    if apps::has_database(raw) {
        apps::remove_unnamed(raw);
    } else if !file_names.is_empty() {
        remove_unused_app_defaults(raw);
    }
    let mut errors = ErrorCollector::default();
    for file_name in &file_names {
        let shown = format!("{name}/{file_name}");
        let read = before.find_in(&path, file_name, &shown);
        let Some(file) = errors.collect(read) else { continue };
        let first_app = raw.list_len(&KeyPath::new("apps"))?;
        errors.collect(file::read_apps(&shown, &file.text, first_app, raw));
        if raw.list_len(&KeyPath::new("apps"))? == first_app && errors.is_empty() {
            errors.collect(Err::<(), _>(ConfigError::at(&shown, "has no [[apps]]")));
        }
        files.push(file, true);
    }
    errors.take_result()
}

/// The names of the TOML files in the folder, sorted. Hidden files are those of editors and of mounted
/// volumes.
fn toml_files(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        if let Ok(name) = entry?.file_name().into_string()
            && Path::new(&name).extension().is_some_and(|end| end == "toml")
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Removes what only the defaults of another server say about the first app, if it has neither id, key
/// nor secret: other apps are in its place.
fn remove_unused_app_defaults(raw: &mut RawConfig) {
    let first = KeyPath::new("apps").index(0);
    let is_default = |(key, setting): (&KeyPath, &SourcedValue)| {
        key.section() != first || matches!(setting.source, ValueSource::Compat(_))
    };
    if raw.section_source(&first).is_none() && raw.iter().all(is_default) {
        raw.remove_section(&first);
    }
}
