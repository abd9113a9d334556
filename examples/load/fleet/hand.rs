//! The handle of a worker, which is a thread or a process.

use super::{
    command::{Command, Line, Reply},
    gate::Gate,
    worker::{Ends, Worker},
};
use crate::{failure::Failure, stop, target::Target};
use mio::Waker;
use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{self, Child, ChildStdin, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The interval at which a wait for a worker checks whether the run is interrupted.
const LOOK: Duration = Duration::from_millis(50);
/// The interval at which a worker process reports deliveries.
const TELL: Duration = Duration::from_millis(2);
/// The argument that makes this program a worker.
pub(crate) const WORKER: &str = "worker-process";

/// The handle of a worker. Dropping it ends the worker.
#[derive(Debug)]
pub(crate) struct Hand {
    replies: Receiver<Reply>,
    /// `None` while the handle is being dropped.
    way: Option<Way>,
}

#[derive(Debug)]
enum Way {
    Thread { commands: Sender<Command>, waker: Waker, thread: JoinHandle<()> },
    Process { child: Child, input: ChildStdin, reader: JoinHandle<()> },
}

impl Hand {
    /// Starts a worker thread.
    pub(crate) fn thread(target: &Target, gate: &Arc<Gate>) -> Result<Self, Failure> {
        let (commands, told) = channel();
        let (answers, replies) = channel();
        let ends = Ends { commands: told, replies: answers };
        let (worker, waker) = Worker::new(target.clone(), Arc::clone(gate), ends)?;
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(Failure::io("start a thread"))?;
        Ok(Self { replies, way: Some(Way::Thread { commands, waker, thread }) })
    }

    /// Starts a worker process, which has its own file descriptors.
    pub(crate) fn process(target: &Target, gate: &Arc<Gate>) -> Result<Self, Failure> {
        let failed = Failure::io("start a worker process");
        let mut child = process::Command::new(env::current_exe().map_err(&failed)?)
            .arg(WORKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(&failed)?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Lost("the pipe to a worker"));
        };
        write_line(&mut input, target)?;
        let (answers, replies) = channel();
        let gate = Arc::clone(gate);
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(Line::Delivered(count)) => gate.add(count),
                    Ok(Line::Reply(reply)) => {
                        if answers.send(reply).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(Self { replies, way: Some(Way::Process { child, input, reader }) })
    }

    /// The process id, if the worker is a process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.way {
            Some(Way::Process { child, .. }) => Some(child.id()),
            Some(Way::Thread { .. }) | None => None,
        }
    }

    /// Sends a command.
    pub(crate) fn tell(&mut self, command: Command) -> Result<(), Failure> {
        match &mut self.way {
            Some(Way::Thread { commands, waker, .. }) => {
                commands.send(command).map_err(|_| Failure::Lost("a worker"))?;
                waker.wake().map_err(Failure::io("wake a worker"))
            }
            Some(Way::Process { input, .. }) => write_line(input, &command),
            None => Err(Failure::Lost("a worker")),
        }
    }

    /// Waits for the reply to the oldest unanswered command.
    pub(crate) fn reply(&self, timeout: Duration) -> Result<Reply, Failure> {
        let until = Instant::now() + timeout;
        loop {
            stop::check()?;
            match self.replies.recv_timeout(LOOK) {
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Lost("a worker"));
                }
            }
        }
    }

    /// Kills a worker process; the system then closes all its sockets at once. A thread ends as
    /// with a drop.
    pub(crate) fn kill(mut self) {
        if let Some(Way::Process { child, .. }) = &mut self.way {
            // The process may have ended already.
            let _ = child.kill();
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        match self.way.take() {
            Some(Way::Thread { commands, waker, thread }) => {
                drop(commands);
                // The worker detects the closed channel at the end of its turn; a panic was printed
                // already.
                let _ = waker.wake();
                let _ = thread.join();
            }
            Some(Way::Process { mut child, input, reader }) => {
                drop(input);
                // A worker process ends when its input ends.
                let _ = child.wait();
                let _ = reader.join();
            }
            None => {}
        }
    }
}

fn write_line(to: &mut impl Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    let failed = Failure::io("write to a pipe");
    let mut line = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    to.write_all(&line).and_then(|()| to.flush()).map_err(failed)
}

/// Runs a worker process: commands arrive on standard input, replies are written to standard
/// output.
pub(crate) fn run_process() -> Result<(), Failure> {
    let mut input = BufReader::new(std::io::stdin()).lines().map_while(Result::ok);
    let target = input.next().ok_or(Failure::Lost("the program that started this worker"))?;
    let read = Failure::io("read from a pipe");
    let target: Target = serde_json::from_str(&target).map_err(|error| read(error.into()))?;
    let gate = Arc::new(Gate::new());
    let (commands, told) = channel();
    let (answers, replies) = channel();
    let ends = Ends { commands: told, replies: answers };
    let (worker, waker) = Worker::new(target, Arc::clone(&gate), ends)?;
    thread::spawn(move || worker.run());
    thread::spawn(move || {
        for line in input {
            let Ok(command) = serde_json::from_str(&line) else { return };
            if commands.send(command).is_err() || waker.wake().is_err() {
                return;
            }
        }
    });
    let mut told = 0;
    loop {
        let reply = replies.recv_timeout(TELL);
        let delivered = gate.delivered();
        if told < delivered {
            write_line(&mut std::io::stdout(), &Line::Delivered(delivered - told))?;
            told = delivered;
        }
        match reply {
            Ok(reply) => write_line(&mut std::io::stdout(), &Line::Reply(reply))?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
