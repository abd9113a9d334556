//! Counts the allocations of a server.

use std::fs;
use std::path::PathBuf;

use crate::redis::compile_library;
use crate::{Directory, Process, Server, Settings};

const SOURCE: &str = include_str!("allocations.c");

/// The number of allocations of a server so far.
#[derive(Debug)]
pub struct CountedAllocations {
    file: PathBuf,
    _library: Directory,
}

impl CountedAllocations {
    /// Starts a server whose allocations are counted.
    pub async fn start(settings: &Settings) -> (Server, Self) {
        let (library, path) = compile_library("allocations", SOURCE);
        let directory = Directory::new();
        let file = directory.write("allocations", "\0\0\0\0\0\0\0\0");
        directory.write("config.toml", &settings.toml());
        let text =
            |path: &PathBuf| path.to_str().expect("the folder has a name in UTF-8").to_owned();
        let environment = [("LD_PRELOAD", text(&path)), ("ALLOCATIONS_FILE", text(&file))];
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let arguments = ["start", "--config", "config.toml", "--host", "127.0.0.1", "--port", "0"];
        let process = Process::spawn_with(&arguments, directory.path(), &environment);
        let server = Server::from_process(process, directory).await;
        (server, Self { file, _library: library })
    }

    /// The number so far.
    pub fn count(&self) -> u64 {
        let bytes = fs::read(&self.file).expect("the file of the counter");
        u64::from_ne_bytes(bytes.try_into().expect("a counter of eight bytes"))
    }
}
