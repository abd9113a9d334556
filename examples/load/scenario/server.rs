//! A Campanile server: started on a free port with a configuration for measurements, and killed
//! when it is dropped.

use crate::{failure::Failure, stop, target::Target};
use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// The timeout until a server listens.
const START: Duration = Duration::from_secs(10);
/// The bytes that may be queued for one connection: the default of the server, to which figures
/// refer.
pub(crate) const OUTBOX_BYTES_MAX: u32 = 1_048_576;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    folder: Folder,
    /// The address and credentials of the server.
    pub(crate) target: Target,
}

/// A temporary directory, removed when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

/// The server's program: next to this one in Cargo's target directory.
pub(crate) fn binary(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = asked {
        return fs::canonicalize(path).map_err(Failure::io("find the server"));
    }
    let own = env::current_exe().map_err(Failure::io("find this program"))?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("campanile")).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::Usage(
            "no campanile beside this program: cargo build --release, or --binary".into(),
        )
    })
}

impl Server {
    /// Starts a server with `shards` shards, and waits until it listens.
    pub(crate) fn start(binary: &Path, shards: u32) -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let failed = Failure::io("start a server");
        let port = free_port().map_err(&failed)?;
        let nth = NEXT.fetch_add(1, Relaxed);
        let name = format!("campanile-load-{}-{nth}", process::id());
        let folder = Folder(env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).map_err(&failed)?;
        let config = folder.0.join("config.toml");
        fs::write(&config, settings(port, shards)).map_err(&failed)?;
        let log = fs::File::create(folder.0.join("log")).map_err(&failed)?;
        let child = Command::new(binary)
            .arg("start")
            .arg("--config")
            .arg(&config)
            .current_dir(&folder.0)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(&failed)?;
        let url = format!("http://127.0.0.1:{port}").parse()?;
        let target = Target {
            urls: vec![url],
            app_id: "load".to_owned(),
            key: "load-key".to_owned(),
            secret: "load-secret".to_owned(),
            resume: false,
        };
        let mut server = Self { child, folder, target };
        server.wait()?;
        Ok(server)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + START;
        while Instant::now() < until {
            stop::check()?;
            if TcpStream::connect(self.target.url(0).address).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = fs::read_to_string(self.folder.0.join("log")).unwrap_or_default();
                return Err(Failure::Server(format!("the server ended with {status}: {log}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(Failure::Server("the server does not listen".to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover temporary directory does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The default configuration, except for limits that would restrict a scenario.
fn settings(port: u16, shards: u32) -> String {
    format!(
        r#"[server]
host = "127.0.0.1"
port = {port}
shards = {shards}
[connection]
max_outbox_bytes = {OUTBOX_BYTES_MAX}
max_messages_per_second = 0
[log]
level = "warn"
[[apps]]
id = "load"
key = "load-key"
secret = "load-secret"
max_presence_members = 100000
client_events_per_second = 0
"#
    )
}
