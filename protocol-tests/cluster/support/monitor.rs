//! The commands that Redis receives, as reported by `MONITOR`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use kit::{Redis, RedisClient, within};

/// Collects every command from its start on.
#[derive(Debug)]
pub(crate) struct Monitor {
    lines: Arc<Mutex<Vec<String>>>,
    marks: RedisClient,
    next_mark: u32,
    task: JoinHandle<()>,
}

impl Monitor {
    pub(crate) async fn start(redis: &Redis) -> Self {
        let mut client = redis.client().await;
        client.command(&["MONITOR"]).await;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let task = tokio::spawn(async move {
            while let Some(line) = client.next().await {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(line.text().to_owned());
            }
        });
        Self { lines, marks: redis.client().await, next_mark: 0, task }
    }

    /// All commands between the previous call and this one.
    pub(crate) async fn since_last(&mut self) -> Vec<String> {
        self.next_mark += 1;
        let mark = format!("mark-{}", self.next_mark);
        self.marks.command(&["ECHO", &mark]).await;
        let is_there = async {
            loop {
                {
                    let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(at) = lines.iter().position(|line| line.contains(&mark)) {
                        let mut before: Vec<String> = lines.drain(..=at).collect();
                        before.pop();
                        return before;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the monitor to see a mark", is_there).await
    }

    /// The commands that clients sent during an action, and its duration.
    pub(crate) async fn commands_of(&mut self, doing: impl Future<Output = ()>) -> Commands {
        self.since_last().await;
        let start = Instant::now();
        doing.await;
        let took = start.elapsed();
        let lines = self.since_last().await;
        // Commands within a script are reported as sent by `lua`.
        let own = lines.iter().filter(|line| !line.contains(" lua] "));
        let names = own
            .filter_map(|line| Some(line.split_once("] \"")?.1.split('"').next()?.to_lowercase()));
        Commands { names: names.collect(), took, lines }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Commands of clients, in lower case.
#[derive(Debug)]
pub(crate) struct Commands {
    names: Vec<String>,
    took: Duration,
    lines: Vec<String>,
}

impl Commands {
    /// Asserts that there were `wanted` script calls, and otherwise no more commands than idle nodes send.
    pub(crate) fn are_scripts(&self, what: &str, wanted: usize, nodes: usize) {
        let scripts = self.names.iter().filter(|name| name.starts_with("evalsha")).count();
        assert!(wanted <= scripts, "{what}: {scripts} script calls instead of {wanted}");
        self.are_at_most(what, wanted, nodes);
    }

    /// How often one node may update the index of cached events: at most twenty times a second.
    pub(crate) fn rare_index_updates(&self) -> usize {
        let is_index_update = |line: &&String| {
            line.contains("] \"EVALSHA\"")
                && line.contains(":cacheorder{")
                && !line.contains(" lua] ")
        };
        let index_updates = self.lines.iter().filter(is_index_update).count();
        let most = self.took.as_millis() / 50 + 2;
        assert!(index_updates as u128 <= most, "{index_updates} in {:?}", self.took);
        index_updates
    }

    /// Asserts that there were at most `wanted` commands, not counting those of idle nodes.
    pub(crate) fn are_at_most(&self, what: &str, wanted: usize, nodes: usize) {
        // Two commands a second per node, and one more for a second that began before.
        let seconds = usize::try_from(self.took.as_secs()).expect("a test is short") + 1;
        let idle = (2 * seconds + 1) * nodes;
        assert!(
            self.names.len() <= wanted + idle,
            "{what}: {} commands in {:?} instead of {wanted} and {idle}:\n{}",
            self.names.len(),
            self.took,
            self.lines[..self.lines.len().min(60)].join("\n")
        );
    }
}
