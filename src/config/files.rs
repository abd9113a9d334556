//! The files that a configuration is read from, and the checks of these files at a reload.
//!
//! A file that was read before and is now missing, empty or truncated is an error: editors, volumes
//! and full disks leave such files behind, and missing settings would get permissive defaults.

use super::{
    error::{ConfigError, collect_errors},
    soketi,
};
use crate::file;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The files that were read, with their content. `Debug` shows their paths only, since the content
/// has secrets.
#[derive(Clone, Default)]
pub struct Files(Vec<SourceFile>);

/// The format of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileFormat {
    Toml,
    Dotenv,
    /// soketi's. A truncated file is not JSON, unless only white space is missing.
    Json,
}

/// A file that was read.
#[derive(Clone)]
pub(super) struct SourceFile {
    path: PathBuf,
    /// Name of the file in errors and sources.
    pub(super) name: String,
    /// Content, without a byte order mark.
    pub(super) text: String,
    pub(super) format: FileFormat,
    /// Whether apps were read from the file.
    has_apps: bool,
    /// Whether it is one of a folder, from which files may be removed.
    is_of_folder: bool,
}

impl Files {
    /// The files as a text: each by its path, and those of a folder by the folder.
    pub(super) fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for file in &self.0 {
            let folder = file.path.parent().filter(|_| file.is_of_folder);
            let text = folder.unwrap_or(&file.path).display().to_string();
            if shown.last() != Some(&text) {
                shown.push(text);
            }
        }
        shown
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| file.path.as_path())
    }

    /// Whether a file of the folder `dir` was read.
    pub(super) fn has_any_in(&self, dir: &Path) -> bool {
        self.0.iter().any(|file| file.is_of_folder && file.path.parent() == Some(dir))
    }

    /// Records a file, and whether apps were read from it.
    pub(super) fn push(&mut self, file: SourceFile, has_apps: bool) {
        self.0.push(SourceFile { has_apps, ..file });
    }

    fn get(&self, path: &Path) -> Option<&SourceFile> {
        self.0.iter().find(|file| file.path == path)
    }

    /// Whether the file at `path` was read.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.get(path).is_some()
    }

    /// Whether apps were read from the file before.
    pub(super) fn had_apps(&self, file: &SourceFile) -> bool {
        self.get(&file.path).is_some_and(|before| before.has_apps)
    }

    /// Fails if a file of the previous load was not read this time: its settings would be lost.
    pub(super) fn check_none_missing(&self, after: &Self) -> Result<(), ConfigError> {
        let is_lost = |file: &&SourceFile| !file.is_of_folder && !after.has(&file.path);
        collect_errors(self.0.iter().filter(is_lost).map(|file| {
            let message =
                "was loaded before and is now replaced by another file: restart to switch files";
            Err::<(), _>(ConfigError::at(&file.name, message))
        }))
    }

    /// The named file, which must exist, or the one with the `default` name in `dir`, which is
    /// optional unless it was read before. A file in place of a TOML file may be JSON. Rejects files
    /// that look truncated.
    pub(super) fn find(
        &self,
        named: Option<&Path>,
        dir: &Path,
        default: &str,
        format: FileFormat,
    ) -> Result<Option<SourceFile>, ConfigError> {
        let path = named.map_or_else(|| dir.join(default), Path::to_path_buf);
        let name = named.map_or_else(|| default.to_owned(), |path| path.display().to_string());
        let issue = |message: String| ConfigError::at(&name, message);
        let before = self.get(&path);
        // A start may read a named pipe, such as /dev/stdin, which has no content at a reload.
        let is_first = named.is_some() && before.is_none();
        let bytes = match if is_first { file::read_file_or_pipe(&path) } else { file::read(&path) }
        {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                return Err(issue("is a link to a file that does not exist".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && before.is_some() => {
                return Err(issue("is missing; it existed at the last load".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(None);
            }
            Err(error) => return Err(issue(format!("cannot be read: {error}"))),
        };
        let text = text_of(bytes, &name)?;
        let format = match format {
            FileFormat::Toml if soketi::is_json(&name, &text) => FileFormat::Json,
            FileFormat::Toml | FileFormat::Dotenv | FileFormat::Json => format,
        };
        if let Some(message) =
            before.and_then(|before| truncation_error(&before.text, &text, format))
        {
            return Err(issue(message.to_owned()));
        }
        Ok(Some(SourceFile { path, name, text, format, has_apps: false, is_of_folder: false }))
    }

    /// The TOML file `file_name` of the folder `dir`, with the `name` in errors. Rejects a file that
    /// looks truncated.
    pub(super) fn find_in(
        &self,
        dir: &Path,
        file_name: &str,
        name: &str,
    ) -> Result<SourceFile, ConfigError> {
        let path = dir.join(file_name);
        let bytes = file::read(&path)
            .map_err(|error| ConfigError::at(name, format!("cannot be read: {error}")))?;
        let (text, format) = (text_of(bytes, name)?, FileFormat::Toml);
        let before = self.get(&path);
        if let Some(message) =
            before.and_then(|before| truncation_error(&before.text, &text, format))
        {
            return Err(ConfigError::at(name, message));
        }
        let name = name.to_owned();
        Ok(SourceFile { path, name, text, format, has_apps: false, is_of_folder: true })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

/// The text of the file `name`, whose content is `bytes`.
fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, ConfigError> {
    decode(bytes).map_err(|(line, message)| match line {
        Some(line) => ConfigError::at(format_args!("{name}:{line}"), message),
        None => ConfigError::at(name, message),
    })
}

/// The text of `bytes`, or the error message with the invalid line.
fn decode(bytes: Vec<u8>) -> Result<String, (Option<usize>, &'static str)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((None, "is in UTF-16: save it in UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
        (Some(line), "contains bytes that are not UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Why `after` looks like a damaged copy of `before`; `None` if it may be a deliberate edit.
///
/// Removing whole apps or webhooks from the end of a TOML file can't be distinguished from a file
/// that was cut between them, and is accepted.
fn truncation_error(before: &str, after: &str, format: FileFormat) -> Option<&'static str> {
    if before.trim_end() == after.trim_end() {
        None
    } else if after.trim().is_empty() {
        Some("is empty; it was not at the last load")
    } else if let Some(removed) = before.strip_prefix(after) {
        let is_deliberate = match format {
            FileFormat::Toml => {
                (after.ends_with('\n') || removed.starts_with(['\r', '\n']))
                    && only_app_sections(removed)
            }
            FileFormat::Dotenv | FileFormat::Json => false,
        };
        (!is_deliberate).then_some(
            "looks truncated: it equals the beginning of the loaded file. To remove the end on \
             purpose, add a comment there",
        )
    } else if before.ends_with('\n')
        && !after.ends_with('\n')
        && ends_mid_line(before, after, format)
    {
        Some("looks truncated: the last line has no line break, unlike at the last load")
    } else {
        None
    }
}

/// Whether `removed`, the removed end of a TOML file, consists of whole apps and their webhooks.
fn only_app_sections(removed: &str) -> bool {
    let mut lines = removed.lines().map(str::trim_start);
    let is_header = |line: &str| line.starts_with('[');
    let is_list_of_apps = |line: &str| {
        let name: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        ["[[apps]]", "[[apps.", "[apps."].iter().any(|header| name.starts_with(header))
    };
    let first = lines.clone().find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| line.starts_with("[["))
        && lines.all(|line| !is_header(line) || is_list_of_apps(line))
}

/// Whether the last line of `after`, which has no line break, may be a truncated one. A TOML file
/// that was truncated in a string or a list is invalid anyway.
fn ends_mid_line(before: &str, after: &str, format: FileFormat) -> bool {
    let last = after.lines().next_back().unwrap_or_default().trim();
    let mut lines = before.lines().map(str::trim);
    let is_one = lines.clone().any(|line| line == last);
    !is_one
        && match format {
            FileFormat::Toml => lines.any(|line| line.starts_with(last)),
            FileFormat::Dotenv => !last.ends_with(['"', '\'']),
            FileFormat::Json => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_text_is_distinguished_from_changed_text() {
        let before = "a = 1\n# b\nc = 1000\n";
        for format in [FileFormat::Toml, FileFormat::Dotenv] {
            let is_cut_short = |before, after| truncation_error(before, after, format);
            for after in [
                "a = 1\n# b\nc = 1000",
                "a = 1\n# b\nc = 1000\n\n",
                "a = 1\n# b\nc = 100\n",
                "a = 1\n# b\n# c\n",
                "a = 1\n# b\n#\n",
                "# b\nc = 1000\n",
                "c = 1\n",
                "a = 2\n# b\nc = 1000",
                "a = 1\n# b\nc = \"d\"",
            ] {
                assert_eq!(is_cut_short(before, after), None, "{after:?}");
            }
            for at in 0..before.len() - 1 {
                assert!(is_cut_short(before, &before[..at]).is_some(), "{:?}", &before[..at]);
            }
            assert!(is_cut_short(before, "a = 2\n# b\nc = 10").is_some());
            assert_eq!(is_cut_short("a = 1", "a = 2"), None, "its lines have no end, as before");
            assert_eq!(is_cut_short("\n", " "), None, "nothing was there before");
        }
        assert_eq!(truncation_error(before, "a = 2\nd = 10", FileFormat::Toml), None);
        assert!(truncation_error(before, "a=2\nd=10", FileFormat::Dotenv).is_some());
    }

    #[test]
    fn only_whole_apps_can_be_removed_from_the_end() {
        let before = "a = 1\n[log]\nb = 1\n\n[[apps]]\nc = 1\n\n# The second.\n[[apps]]\nc = 2\n\
            [[apps.webhooks]]\nd = 1\n[apps.webhooks.headers]\ne = 1\n";
        let is_taken =
            |at: usize| truncation_error(before, &before[..at], FileFormat::Toml).is_none();
        let taken: Vec<usize> = (1..before.len() - 1).filter(|at| is_taken(*at)).collect();
        let places = |header: &'static str| before.match_indices(header).map(|(at, _)| at);
        let mut expected = Vec::new();
        for at in places("[[apps]]").chain(places("[[apps.webhooks]]")) {
            expected.extend([at - 1, at]);
        }
        // Empty lines and a comment belong to what follows them.
        let first = before.find("\n\n[[apps]]").unwrap();
        let second = before.find("\n\n# The second").unwrap();
        expected.extend([first, second, second + 1, second + 2]);
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(taken, expected);
        let with_limits = format!("{before}[connection]\nf = 1\n");
        let all_taken = |text: &str| {
            (1..text.len() - 1)
                .any(|at| truncation_error(text, &text[..at], FileFormat::Toml).is_none())
        };
        assert!(!all_taken(&with_limits), "a limit would be lost");
    }

    #[test]
    fn invalid_utf_8_is_reported_with_its_line() {
        assert_eq!(decode(b"\xef\xbb\xbfa".to_vec()).as_deref(), Ok("a"));
        assert!(
            decode(b"\xff\xfea\0".to_vec()).is_err_and(|(_, message)| message.contains("UTF-16"))
        );
        assert!(decode(b"a\n\n\xe9".to_vec()).is_err_and(|(line, _)| line == Some(3)));
    }

    #[test]
    fn an_endless_file_is_rejected() {
        let endless = Files::default().find(
            Some(Path::new("/dev/zero")),
            Path::new(""),
            "",
            FileFormat::Toml,
        );
        let error = endless.map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "/dev/zero: cannot be read: larger than 16 MiB");
    }
}
