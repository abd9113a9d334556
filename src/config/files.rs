//! The files that a configuration is read from, and what a reload must find in them again.
//!
//! A file that was read once and is now gone, empty or cut short is no configuration: editors,
//! volumes and full disks leave such files behind, and what they lack would fall back to defaults
//! that are open.

use super::error::ConfigError;
use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Far more than any configuration has. A device or a pipe without an end is no file.
const BYTES_MAX: u64 = 16 * 1_048_576;

/// The files that were read, as they were then. `Debug` shows their paths, not their texts, which
/// hold secrets.
#[derive(Clone, Default)]
pub struct Files(Vec<Source>);

/// A file that was read.
#[derive(Clone)]
pub(super) struct Source {
    path: PathBuf,
    /// How errors and origins name it.
    pub(super) name: String,
    /// What it holds, without a byte order mark.
    pub(super) text: String,
    /// Whether apps were read from it.
    has_apps: bool,
}

impl Files {
    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|source| source.path.as_path())
    }

    /// Remembers a file, and whether apps were read from it.
    pub(super) fn push(&mut self, source: Source, has_apps: bool) {
        self.0.push(Source { has_apps, ..source });
    }

    fn get(&self, path: &Path) -> Option<&Source> {
        self.0.iter().find(|source| source.path == path)
    }

    /// Whether the file at `path` was read.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.get(path).is_some()
    }

    /// Whether apps were read from the file that is `source` now.
    pub(super) fn had_apps(&self, source: &Source) -> bool {
        self.get(&source.path).is_some_and(|before| before.has_apps)
    }

    /// The file that was named, which must exist, or the one with the `default` name in `dir`,
    /// which need not, unless it was read before. It must be whole as far as that can be known.
    pub(super) fn find(
        &self,
        named: Option<&Path>,
        dir: &Path,
        default: &str,
    ) -> Result<Option<Source>, ConfigError> {
        let path = named.map_or_else(|| dir.join(default), Path::to_path_buf);
        let name = named.map_or_else(|| default.to_owned(), |path| path.display().to_string());
        let fault = |rule: String| ConfigError::at(&name, rule);
        let before = self.get(&path);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                return Err(fault("is a link to a file that does not exist".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && before.is_some() => {
                return Err(fault("is missing, and was there when it was read last".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(None);
            }
            Err(error) => return Err(fault(format!("cannot be read: {error}"))),
        };
        let text = decode(bytes).map_err(|(line, rule)| match line {
            Some(line) => ConfigError::at(format_args!("{name}:{line}"), rule),
            None => ConfigError::at(&name, rule),
        })?;
        if let Some(rule) = before.and_then(|before| is_cut_short(&before.text, &text)) {
            return Err(fault(rule.to_owned()));
        }
        Ok(Some(Source { path, name, text, has_apps: false }))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if BYTES_MAX < bytes.len() as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 16 MiB"));
    }
    Ok(bytes)
}

/// The text of `bytes`, or the line and the rule that is broken there.
fn decode(bytes: Vec<u8>) -> Result<String, (Option<usize>, &'static str)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((None, "is in UTF-16: save it in UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
        (Some(line), "holds bytes that are not UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Why `after` can't be what somebody has made of `before` on purpose, if it can't.
fn is_cut_short(before: &str, after: &str) -> Option<&'static str> {
    if before.trim_end() == after.trim_end() {
        None
    } else if after.trim().is_empty() {
        Some("is empty, and was not when it was read last")
    } else if before.starts_with(after) {
        Some(
            "is only the beginning of what it was when it was read last, and may be cut short: \
             if its end is to go, leave a comment in its place",
        )
    } else if before.ends_with('\n') && !after.ends_with('\n') {
        Some(
            "ends in the middle of a line, and may be cut short: when it was read last, it ended \
             with a line break",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_short_is_told_from_one_that_was_changed() {
        let before = "a = 1\n# b\nc = 1000\n";
        for after in [
            "a = 1\n# b\nc = 1000",
            "a = 1\n# b\nc = 1000\n\n",
            "a = 1\n# b\nc = 100\n",
            "a = 1\n# b\n# c\n",
            "a = 1\n# b\n#\n",
            "# b\nc = 1000\n",
            "c = 1\n",
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

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_line() {
        assert_eq!(decode(b"\xef\xbb\xbfa".to_vec()).as_deref(), Ok("a"));
        assert!(decode(b"\xff\xfea\0".to_vec()).is_err_and(|(_, rule)| rule.contains("UTF-16")));
        assert!(decode(b"a\n\n\xe9".to_vec()).is_err_and(|(line, _)| line == Some(3)));
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let endless = Files::default().find(Some(Path::new("/dev/zero")), Path::new(""), "");
        let error = endless.map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "/dev/zero: cannot be read: it has more than 16 MiB");
    }
}
