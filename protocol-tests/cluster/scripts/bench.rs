//! A Redis whose clock is stopped, on which cases are run.

use std::collections::BTreeSet;

use kit::{Redis, RedisClient, Resp};

use super::{
    case::{Call, Case, NOW_US, Step, with_run},
    state::{self, State},
};

/// A Redis, a connection for commands, and one for messages.
pub(super) struct ScriptTestbed {
    pub(super) is_cluster: bool,
    /// The run id of Redis.
    run: String,
    /// The name of the script that returns the state.
    state: String,
    client: RedisClient,
    bus: RedisClient,
    /// The buses of the slot to which the second connection is subscribed.
    buses: BTreeSet<String>,
    _redis: Redis,
}

impl ScriptTestbed {
    /// Starts a single Redis.
    pub(super) async fn start() -> Self {
        Self::with(Redis::start_adjustable(&[]).await, false).await
    }

    /// Starts a Redis Cluster of one server.
    pub(super) async fn start_cluster() -> Self {
        let redis = Redis::start_adjustable(&["--cluster-enabled", "yes"]).await;
        redis.client().await.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        kit::eventually("the slots are served", async || {
            let info = redis.client().await.command(&["CLUSTER", "INFO"]).await;
            info.text().contains("cluster_state:ok")
        })
        .await;
        Self::with(redis, true).await
    }

    async fn with(redis: Redis, is_cluster: bool) -> Self {
        redis.stop_clock(NOW_US);
        let (mut client, mut bus) = (redis.client().await, redis.client().await);
        bus.command(&["PSUBSCRIBE", "*"]).await;
        // No pattern matches the bus without a name.
        bus.command(&["SUBSCRIBE", ""]).await;
        let info = client.command(&["INFO", "server"]).await;
        let run = info.text().lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.expect("a run id").to_owned();
        let state = client.command(&["SCRIPT", "LOAD", state::SCRIPT]).await.text().to_owned();
        Self { is_cluster, run, state, client, bus, buses: BTreeSet::new(), _redis: redis }
    }

    /// Loads a script, and returns its name.
    pub(super) async fn load(&mut self, text: &str) -> Result<String, String> {
        match self.client.try_command(&["SCRIPT", "LOAD", text]).await {
            Some(Resp::Text(sha)) => Ok(sha),
            other => Err(format!("{other:?}")),
        }
    }

    /// Runs a case with a script. The error has the lines that differ.
    pub(super) async fn run(&mut self, case: &Case, sha: &str) -> Result<(), String> {
        if self.is_cluster {
            self.subscribe(case).await;
        }
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let state: Vec<String> = words(&["EVALSHA", &self.state, "0"]);
        let mut commands = vec![words(&["FLUSHALL"])];
        for step in &case.steps {
            match step {
                Step::Command(command) => commands.push(with_run(command, &self.run)),
                Step::Call(call) => {
                    let count = call.keys.len().to_string();
                    let begin = ["EVALSHA", sha, &count].map(str::to_owned);
                    let words = [&begin[..], &call.keys, &call.arguments].concat();
                    commands.extend([state.clone(), with_run(&words, &self.run), state.clone()]);
                }
            }
        }
        let replies = self.client.pipeline(&commands).await;
        // Read in any case, so that the next case does not receive them.
        let received = self.received().await;
        let mut replies = replies.into_iter().skip(1);
        let mut failures = Vec::new();
        for step in &case.steps {
            match step {
                Step::Command(command) => {
                    let reply = replies.next();
                    if let Some(Resp::Error(error)) = reply {
                        return Err(format!("{command:?}: {error}"));
                    }
                }
                Step::Call(call) => {
                    let mut next = || replies.next().expect("a reply to each command");
                    let (before, reply, after) = (next(), next(), next());
                    let states = (state::read(&before), state::read(&after));
                    let (Some(before), Some(after)) = states else {
                        return Err("the state can't be read".to_owned());
                    };
                    failures.extend(self.difference(call, &reply, &before, &after));
                }
            }
        }
        if received != case.received {
            failures.push(differ('!', &received, &case.received));
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    fn difference(
        &self,
        call: &Call,
        reply: &Resp,
        before: &State,
        after: &State,
    ) -> Option<String> {
        let reply = state::reply(reply);
        let expected = with_run(&call.reply, &self.run);
        let changes = state::changes(before, after);
        let expected_changes: Vec<_> =
            call.changes.iter().map(|change| with_run(change, &self.run)).collect();
        let mut lines = Vec::new();
        if !state::is_reply(&reply, &expected) {
            lines.push(differ('=', &[reply], &[expected]));
        }
        if changes != expected_changes {
            lines.push(differ('~', &changes, &expected_changes));
        }
        let call = format!("> {} / {}", call.keys.join(" "), call.arguments.join(" "));
        (!lines.is_empty()).then(|| format!("{call}\n{}", lines.join("\n")))
    }

    /// Subscribes to the buses that a case may use.
    async fn subscribe(&mut self, case: &Case) {
        let calls = case.steps.iter().filter_map(|step| match step {
            Step::Call(call) => Some(&call.keys),
            Step::Command(_) => None,
        });
        let named = case.received.iter().filter_map(|message| message.first());
        let buses: Vec<String> = calls.flatten().chain(named).cloned().collect();
        for bus in buses {
            if self.buses.insert(bus.clone()) {
                self.bus.command(&["SSUBSCRIBE", &bus]).await;
            }
        }
    }

    /// The messages until now.
    async fn received(&mut self) -> Vec<Vec<String>> {
        let kind = if self.is_cluster { "smessage" } else { "pmessage" };
        let mut received = Vec::new();
        let mut reply = self.bus.try_command(&["PING"]).await.expect("Redis replies");
        loop {
            let words = reply.texts();
            match words.as_slice() {
                [pong, ..] if pong == "pong" => return received,
                // The bus and the text are last.
                [found, .., bus, text] if found == kind => {
                    received.push(vec![bus.clone(), text.clone()]);
                }
                _ => received.push(words),
            }
            reply = self.bus.next().await.expect("Redis replies");
        }
    }
}

/// The actual lines and the expected lines.
fn differ(kind: char, actual: &[Vec<String>], expected: &[Vec<String>]) -> String {
    let lines = |all: &[Vec<String>]| {
        let quoted = |word: &String| {
            if kind == '=' || !(word.is_empty() || word.contains(' ')) {
                word.clone()
            } else {
                format!("'{word}'")
            }
        };
        let line = |words: &Vec<String>| {
            format!("{kind} {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "))
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    format!("{}\n-- instead of\n{}", lines(actual), lines(expected))
}
