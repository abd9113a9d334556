//! Reads whole files whose paths operators configure.
//!
//! Reading a pipe without a writer would block forever, and reading an endless device would fill
//! the memory.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

/// Maximum size: far more than any configuration and any list of certificates has.
const BYTES_MAX: u64 = 16 * 1_048_576;

/// Reads the regular file at `path`, following links.
///
/// # Errors
///
/// It is not a regular file, is larger than 16 MiB, or can't be read.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    // Opening a pipe blocks already.
    if fs::metadata(path)?.is_file() {
        read_file_or_pipe(path)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Reads the file or pipe at `path`. Waits for a pipe.
///
/// # Errors
///
/// It is larger than 16 MiB, or can't be read.
pub fn read_file_or_pipe(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if BYTES_MAX < bytes.len() as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_files_are_not_read() {
        let error = |read: io::Result<Vec<u8>>| read.unwrap_err().to_string();
        assert_eq!(error(read("/dev/zero")), "not a regular file");
        assert_eq!(error(read("/")), "not a regular file");
        assert_eq!(error(read_file_or_pipe("/dev/zero")), "larger than 16 MiB");
    }

    #[test]
    fn a_file_may_have_sixteen_mebibytes() {
        let path = std::env::temp_dir().join(format!("campanile-file-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        for (length, is_read) in [(16 << 20, true), ((16 << 20) + 1, false)] {
            file.set_len(length).unwrap();
            let read = read(&path).map(|bytes| bytes.len() as u64);
            assert_eq!(read.ok(), is_read.then_some(length));
        }
        fs::remove_file(path).unwrap();
    }
}
