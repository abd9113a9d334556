//! A `campanile` process, its output, and its exit code.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio, id};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{DEADLINE, program, within};

/// A running `campanile`. It is killed when dropped; if the test fails, its output is printed.
///
/// The test also fails if the process panicked, even if it recovered, or if it ended although the test neither sent a
/// terminating signal nor waited for the exit code.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: UnboundedReceiver<String>,
    output: Output,
    readers: Vec<JoinHandle<()>>,
    /// Whether the test expects the process to end.
    may_end: AtomicBool,
}

/// The text that the standard library prints on standard error for every panic, before it can be caught.
const PANIC: &str = "panicked at";

impl Process {
    /// Runs `campanile` in `directory` with no environment variables but `PATH`.
    pub fn spawn<S: AsRef<OsStr>>(arguments: &[S], directory: &Path) -> Self {
        Self::spawn_with(arguments, directory, &[])
    }

    /// Like [`Process::spawn`], with environment variables.
    pub fn spawn_with<S: AsRef<OsStr>>(
        arguments: &[S],
        directory: &Path,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
        Self::run(command, directory)
    }

    /// Like [`Process::spawn`], for another version of the program.
    pub fn spawn_program(program: &Path, arguments: &[&str], directory: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Self::run(command, directory)
    }

    /// Runs `campanile` with a listening socket as file descriptor 3, as systemd passes it.
    pub fn spawn_listening(
        arguments: &[&str],
        directory: &Path,
        listener: &std::net::TcpListener,
        environment: &[(&str, &str)],
    ) -> Self {
        let passed = listener.try_clone().expect("there are file descriptors");
        let mut command = Command::new("sh");
        let script = r#"LISTEN_PID=$$ exec "$0" "$@" 3<&0 0</dev/null"#;
        command
            .args(["-c", script])
            .arg(program())
            .args(arguments)
            .env("LISTEN_FDS", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(passed)));
        Self::run(command, directory)
    }

    fn run(mut command: Command, directory: &Path) -> Self {
        let own: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned()))
            .collect();
        command
            .current_dir(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(own);
        Self::from_command(&mut command)
    }

    /// Runs a command that executes `campanile`, with the given standard input.
    pub fn from_command(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let (sender, lines) = unbounded_channel();
        let output = Output::default();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![
            follow("out", stdout, output.clone(), Some(sender)),
            follow("err", stderr, output.clone(), None),
        ];
        Self { child, lines, output, readers, may_end: AtomicBool::new(false) }
    }

    /// The next line of standard output for which `wanted` holds.
    pub async fn line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let search = async {
            while let Some(line) = self.lines.recv().await {
                if wanted(&line) {
                    return line;
                }
            }
            panic!("the output ended without {what}");
        };
        within(what, search).await
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its short name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        if ["TERM", "INT", "KILL"].contains(&name) {
            self.may_end.store(true, Ordering::Relaxed);
        }
        let kill = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    /// Waits for the end; returns the exit code, or `None` if a signal ended the process.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.may_end.store(true, Ordering::Relaxed);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                self.read_to_end();
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for the process to end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until everything that the process printed has been read. It must have ended.
    fn read_to_end(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader of a pipe does not panic");
        }
    }

    /// The failure of the process, if any. `ended` is its status if it ended before it was killed.
    fn fault(&self, ended: Option<ExitStatus>) -> Option<String> {
        if self.stream("err").contains(PANIC) {
            return Some("campanile panicked".to_owned());
        }
        let ended = ended.filter(|_| !self.may_end.load(Ordering::Relaxed))?;
        Some(format!("campanile ended by itself: {ended}"))
    }

    /// Everything printed so far, `out` and `err` before each line.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// The output so far on one of the two streams, `out` or `err`, without the prefixes.
    pub fn stream(&self, name: &str) -> String {
        let mark = format!("{name}| ");
        self.output()
            .lines()
            .filter_map(|line| line.strip_prefix(&mark))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Process {
    #[expect(
        clippy::print_stderr,
        reason = "the server's log belongs into the report of a failed test"
    )]
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        // The process may have ended already.
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
        self.read_to_end();
        let fault = self.fault(ended);
        if fault.is_some() || std::thread::panicking() {
            let output = self.output.text();
            let lines: Vec<&str> = output.lines().collect();
            let tail = lines.len().saturating_sub(200);
            eprintln!(
                "--- output of campanile, the last {} of {} lines",
                lines.len() - tail,
                lines.len()
            );
            eprintln!("{}\n---", lines[tail..].join("\n"));
        }
        // A second panic would abort all tests.
        if !std::thread::panicking()
            && let Some(fault) = fault
        {
            panic!("{fault}");
        }
    }
}

/// A temporary directory of one test, removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes an empty directory.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("campanile-conformance-{}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Self(path)
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a folder of our own can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A leftover temporary directory is no reason to fail.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn push(&self, name: &str, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(name);
        text.push_str("| ");
        text.push_str(line);
        text.push('\n');
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a pipe to its end, so that the process never blocks on it.
fn follow(
    name: &'static str,
    pipe: impl Read + Send + 'static,
    output: Output,
    lines: Option<UnboundedSender<String>>,
) -> JoinHandle<()> {
    spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            output.push(name, &line);
            if let Some(lines) = &lines {
                // The receiver may have been dropped.
                let _unread = lines.send(line);
            }
        }
    })
}
