//! The Lua scripts that change the shared state in Redis, each atomically.

use super::{lease::Lease, link::RedisConnection, lua, names::Names, partition::Partition};
use redis::{Cmd, RedisError, RedisResult, ServerErrorKind, Value};
use std::{
    fmt::Display,
    io::Write as _,
    sync::{Arc, OnceLock},
};

/// Maximum digits of the number of keys.
const NUMBER_LEN: usize = 4;

/// A script, and its SHA1 digest once it was loaded.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    sha: OnceLock<String>,
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) heartbeat: Arc<Script>,
    pub(super) expire: Arc<Script>,
    pub(super) restore: Arc<Script>,
    pub(super) sync: Arc<Script>,
    pub(super) compare: Arc<Script>,
    pub(super) publish: Arc<Script>,
    pub(super) notify: Arc<Script>,
    pub(super) channel: Arc<Script>,
    pub(super) scan: Arc<Script>,
    pub(super) cache: Arc<Script>,
    pub(super) evict: Arc<Script>,
    pub(super) append: Arc<Script>,
    pub(super) forward: Arc<Script>,
    pub(super) unforwarded: Arc<Script>,
    pub(super) poll: Arc<Script>,
    pub(super) commit: Arc<Script>,
    pub(super) head: Arc<Script>,
    pub(super) release: Arc<Script>,
    pub(super) split: Arc<Script>,
    pub(super) set_aside: Arc<Script>,
    pub(super) aside: Arc<Script>,
}

impl Scripts {
    /// The scripts for the topology.
    pub(super) fn new(is_cluster: bool) -> Self {
        let script = |text: &str| {
            let text = lua::assembled(text, &lua::PARTS, is_cluster);
            #[cfg(test)]
            let text = super::simulation::mutated(text);
            Arc::new(Script { text, sha: OnceLock::new() })
        };
        Self {
            heartbeat: script(include_str!("lua/heartbeat.lua")),
            expire: script(include_str!("lua/expire.lua")),
            restore: script(include_str!("lua/restore.lua")),
            sync: script(include_str!("lua/sync.lua")),
            compare: script(include_str!("lua/compare.lua")),
            publish: script(include_str!("lua/publish.lua")),
            notify: script(include_str!("lua/notify.lua")),
            channel: script(include_str!("lua/channel.lua")),
            scan: script(include_str!("lua/scan.lua")),
            cache: script(include_str!("lua/cache.lua")),
            evict: script(include_str!("lua/evict.lua")),
            append: script(include_str!("lua/append.lua")),
            forward: script(include_str!("lua/forward.lua")),
            unforwarded: script(include_str!("lua/unforwarded.lua")),
            poll: script(include_str!("lua/poll.lua")),
            commit: script(include_str!("lua/commit.lua")),
            head: script(include_str!("lua/head.lua")),
            release: script(include_str!("lua/release.lua")),
            split: script(include_str!("lua/split.lua")),
            set_aside: script(include_str!("lua/set_aside.lua")),
            aside: script(include_str!("lua/aside.lua")),
        }
    }

    fn all(&self) -> Vec<&Arc<Script>> {
        vec![
            &self.heartbeat,
            &self.expire,
            &self.restore,
            &self.sync,
            &self.compare,
            &self.publish,
            &self.notify,
            &self.channel,
            &self.scan,
            &self.cache,
            &self.evict,
            &self.append,
            &self.forward,
            &self.unforwarded,
            &self.poll,
            &self.commit,
            &self.head,
            &self.release,
            &self.split,
            &self.set_aside,
            &self.aside,
        ]
    }

    /// Loads all scripts on every server, in one round trip.
    pub(super) async fn load(&self, connection: &RedisConnection) -> RedisResult<()> {
        let all = self.all();
        let texts: Vec<&str> = all.iter().map(|script| script.text.as_str()).collect();
        let names = connection.load(&texts).await?;
        for (script, sha) in all.into_iter().zip(names) {
            // The digest is the same on every server.
            let _ = script.sha.set(sha);
        }
        Ok(())
    }
}

/// A call of a script.
#[derive(Debug)]
pub(super) struct ScriptCall {
    script: Arc<Script>,
    partition: Partition,
    keys: Vec<String>,
    /// The concatenated arguments.
    arguments: Vec<u8>,
    /// The end of each argument.
    ends: Vec<usize>,
}

impl ScriptCall {
    pub(super) fn of(script: &Arc<Script>, partition: Partition) -> Self {
        Self {
            script: Arc::clone(script),
            partition,
            keys: Vec::new(),
            arguments: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// A call that is refused unless `lease` holds in its partition (see `lua/guard.lua`).
    pub(super) fn guarded(
        script: &Arc<Script>,
        partition: Partition,
        names: &Names,
        lease: &Lease,
    ) -> Self {
        Self::of(script, partition)
            .key(names.registry(partition))
            .arg(lease.generation(partition))
            .arg(&lease.node)
            .number(lease.link)
    }

    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    /// The approximate size of the call in bytes.
    pub(super) fn len(&self) -> usize {
        self.arguments.len() + self.keys.iter().map(String::len).sum::<usize>()
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    pub(super) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.extend_from_slice(argument.as_ref());
        self.ends.push(self.arguments.len());
        self
    }

    pub(super) fn number(mut self, number: impl Display) -> Self {
        write!(self.arguments, "{number}").expect("memory takes it");
        self.ends.push(self.arguments.len());
        self
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let keys_len: usize = self.keys.iter().map(String::len).sum();
        let count = 3 + self.keys.len() + self.ends.len();
        let len = name.len() + script.len() + keys_len + self.arguments.len();
        let mut command = Cmd::with_capacity(count, len + NUMBER_LEN);
        command.arg(name).arg(script).arg(self.keys.len()).arg(&self.keys);
        let mut begin = 0;
        for end in &self.ends {
            command.arg(&self.arguments[begin..*end]);
            begin = *end;
        }
        command
    }

    /// Runs the script.
    pub(super) async fn run(self, connection: &RedisConnection) -> RedisResult<Value> {
        self.run_on(connection, false).await
    }

    /// Like [`Self::run`], answered in order with the messages of the bus.
    pub(super) async fn run_in_order(self, connection: &RedisConnection) -> RedisResult<Value> {
        self.run_on(connection, true).await
    }

    /// Runs the script by its digest, or by its text if the server does not have it.
    async fn run_on(&self, connection: &RedisConnection, is_in_order: bool) -> RedisResult<Value> {
        let send = async |command: Cmd| {
            if is_in_order {
                connection.query_in_order(self.partition, &command).await
            } else {
                connection.query(self.partition, &command).await
            }
        };
        let sha = self.script.sha.get().map_or("", String::as_str);
        match send(self.command("EVALSHA", sha)).await {
            Err(error) if is_unknown_script(&error) => {
                send(self.command("EVAL", &self.script.text)).await
            }
            answer => answer,
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The status at the beginning of a guarded script's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Done,
    /// The deadline had passed; nothing was changed.
    Late,
    /// The lease is not valid in this partition; nothing was changed.
    Refused,
}

/// A script's answer, read value by value.
#[derive(Debug)]
pub(super) struct ScriptReply(std::vec::IntoIter<Value>);

/// The error for an invalid answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unexpected;

impl ScriptReply {
    pub(super) fn new(value: Value) -> Result<Self, Unexpected> {
        if let Value::Array(values) = value {
            Ok(Self(values.into_iter()))
        } else {
            Err(Unexpected)
        }
    }

    /// The number of values that are not read yet.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Unexpected> {
        let value = self.0.next();
        if let Some(Value::BulkString(bytes)) = value { Ok(bytes) } else { Err(Unexpected) }
    }

    pub(super) fn text(&mut self) -> Result<String, Unexpected> {
        String::from_utf8(self.bytes()?).map_err(|_| Unexpected)
    }

    /// A count: never negative.
    pub(super) fn number(&mut self) -> Result<u64, Unexpected> {
        let value = self.0.next();
        let Some(Value::Int(number)) = value else { return Err(Unexpected) };
        u64::try_from(number).map_err(|_| Unexpected)
    }

    pub(super) fn count(&mut self) -> Result<usize, Unexpected> {
        usize::try_from(self.number()?).map_err(|_| Unexpected)
    }

    pub(super) fn counts(&mut self) -> Result<Vec<usize>, Unexpected> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.count()).collect()
    }

    pub(super) fn all_bytes(&mut self) -> Result<Vec<Vec<u8>>, Unexpected> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.bytes()).collect()
    }

    /// The status, and the server's clock in ms. The answer of every guarded script begins with
    /// them.
    pub(super) fn status(&mut self) -> Result<(Status, u64), Unexpected> {
        let status = match self.text()?.as_str() {
            "ok" => Status::Done,
            "late" => Status::Late,
            "other" => Status::Refused,
            _ => return Err(Unexpected),
        };
        Ok((status, self.number()?))
    }

    fn list(&mut self) -> Result<Self, Unexpected> {
        Self::new(self.0.next().ok_or(Unexpected)?)
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, Unexpected> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.text()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: &str =
        "if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'other', now} end\n";

    /// Only the check of a deadline may precede the guard.
    #[test]
    fn every_script_checks_the_lease_first() {
        for is_cluster in [false, true] {
            let scripts = Scripts::new(is_cluster);
            for script in scripts.all() {
                if Arc::ptr_eq(script, &scripts.heartbeat) {
                    // It is the script that registers a node.
                    continue;
                }
                let (before, after) = script.text.split_once(GUARD).expect(&script.text);
                let part = |(name, _): &(&str, &str)| lua::assembled(name, &lua::PARTS, is_cluster);
                let parts = lua::PARTS.iter().map(part);
                let own = parts.fold(before.to_owned(), |own, part| own.replace(&part, ""));
                assert!(!own.contains("may_write") && !after.is_empty(), "{}", script.text);
                let code = own.lines().filter(|line| !line.starts_with("--"));
                let writes = code.filter(|line| line.contains("redis.call"));
                assert_eq!(writes.count(), 0, "{own}");
            }
        }
    }
}
