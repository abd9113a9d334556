//! The Lua scripts that change the shared state in Redis, each atomically.

use super::{
    fencing_token::FencingToken, link::RedisConnection, lua, names::KeyNames, partition::Partition,
};
use parking_lot::Mutex;
use redis::{Cmd, RedisError, RedisResult, ServerErrorKind, Value};
use std::{
    fmt::Display,
    io::Write as _,
    sync::{Arc, OnceLock},
};

/// The keys and the arguments that a fenced call begins with.
const FENCING_KEYS: usize = 1;
const FENCING_ARGUMENTS: usize = 3;
/// What a call has room for without growing: somewhat more than a publish needs.
const KEYS_USUAL: usize = 9;
const ARGUMENTS_USUAL: usize = 16;
const BYTES_USUAL: usize = 512;
/// Maximum digits of the number of keys.
const NUMBER_LEN: usize = 4;

/// A script, and its SHA1 digest once it was loaded.
#[derive(Debug)]
pub(crate) struct Script {
    pub(super) text: String,
    digest: OnceLock<String>,
}

impl Script {
    /// The script for the topology, with its parts and constants.
    pub(super) fn new(text: &str, is_redis_cluster: bool) -> Arc<Self> {
        let text = lua::assembled(text, &lua::INCLUDES, is_redis_cluster);
        #[cfg(test)]
        let text = super::simulation::mutated(text);
        Arc::new(Self { text, digest: OnceLock::new() })
    }

    /// Panics unless the script checks the fencing token before it reads or writes.
    #[cfg(test)]
    pub(crate) fn assert_fenced(&self) {
        const FENCE_CHECK: &str = "if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end\n";
        let (before, after) = self.text.split_once(FENCE_CHECK).expect(&self.text);
        let own = [false, true].into_iter().fold(before.to_owned(), |own, is_redis_cluster| {
            let part =
                |(name, _): &(&str, &str)| lua::assembled(name, &lua::INCLUDES, is_redis_cluster);
            lua::INCLUDES.iter().map(part).fold(own, |own, part| own.replace(&part, ""))
        });
        assert!(!own.contains("may_write") && !after.is_empty(), "{}", self.text);
        let code = own.lines().filter(|line| !line.starts_with("--"));
        let calls = code.filter(|line| line.contains("redis.call"));
        assert_eq!(calls.count(), 0, "{own}");
    }
}

/// All scripts that nodes run.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) heartbeat: Arc<Script>,
    pub(super) expire: Arc<Script>,
    pub(super) restore: Arc<Script>,
    pub(super) sync: Arc<Script>,
    pub(super) compare: Arc<Script>,
    pub(super) publish: Arc<Script>,
    pub(super) publish_group: Arc<Script>,
    pub(super) notify: Arc<Script>,
    pub(super) channel: Arc<Script>,
    pub(super) history: Arc<Script>,
    pub(super) scan: Arc<Script>,
    pub(super) cache: Arc<Script>,
    pub(super) evict: Arc<Script>,
    pub(super) append_records: Arc<Script>,
    pub(super) next_records: Arc<Script>,
    pub(super) client: Arc<Script>,
    /// The scripts of other modules.
    for_apps: Mutex<Vec<Arc<Script>>>,
}

impl Scripts {
    /// The scripts for the topology.
    pub(super) fn new(is_redis_cluster: bool) -> Self {
        let script = |text: &str| Script::new(text, is_redis_cluster);
        Self {
            heartbeat: script(include_str!("lua/heartbeat.lua")),
            expire: script(include_str!("lua/expire.lua")),
            restore: script(include_str!("lua/restore.lua")),
            sync: script(include_str!("lua/sync.lua")),
            compare: script(include_str!("lua/compare.lua")),
            publish: script(include_str!("lua/publish.lua")),
            publish_group: script(include_str!("lua/publish_group.lua")),
            notify: script(include_str!("lua/notify.lua")),
            channel: script(include_str!("lua/channel.lua")),
            history: script(include_str!("lua/history.lua")),
            scan: script(include_str!("lua/scan.lua")),
            cache: script(include_str!("lua/cache.lua")),
            evict: script(include_str!("lua/evict.lua")),
            append_records: script(include_str!("lua/append_records.lua")),
            next_records: script(include_str!("lua/next_records.lua")),
            client: script(include_str!("lua/client.lua")),
            for_apps: Mutex::default(),
        }
    }

    /// Adds a script of another module, which the next connection loads.
    pub(super) fn add(&self, script: &Arc<Script>) {
        self.for_apps.lock().push(Arc::clone(script));
    }

    fn all(&self) -> Vec<Arc<Script>> {
        let own = [
            &self.heartbeat,
            &self.expire,
            &self.restore,
            &self.sync,
            &self.compare,
            &self.publish,
            &self.publish_group,
            &self.notify,
            &self.channel,
            &self.history,
            &self.scan,
            &self.cache,
            &self.evict,
            &self.append_records,
            &self.next_records,
            &self.client,
        ];
        let others = self.for_apps.lock();
        own.into_iter().chain(&*others).map(Arc::clone).collect()
    }

    /// Loads all scripts on every server, in one round trip.
    pub(super) async fn load(&self, connection: &RedisConnection) -> RedisResult<()> {
        let all = self.all();
        let texts: Vec<&str> = all.iter().map(|script| script.text.as_str()).collect();
        let digests = connection.load(&texts).await?;
        for (script, digest) in all.into_iter().zip(digests) {
            // The digest is the same on every server.
            let _ = script.digest.set(digest);
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
    /// All arguments in one buffer, split by `ends`.
    arguments: Vec<u8>,
    /// The end of each argument.
    ends: Vec<usize>,
}

impl ScriptCall {
    pub(super) fn new(script: &Arc<Script>, partition: Partition) -> Self {
        Self {
            script: Arc::clone(script),
            partition,
            keys: Vec::new(),
            arguments: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// A call that is rejected if `token` is outdated in its partition (see `lua/fencing.lua`).
    pub(super) fn fenced(
        script: &Arc<Script>,
        partition: Partition,
        names: &KeyNames,
        token: &FencingToken,
    ) -> Self {
        let mut call = Self::new(script, partition);
        // Most calls have no more than that.
        call.keys.reserve(KEYS_USUAL);
        call.ends.reserve(ARGUMENTS_USUAL);
        call.arguments.reserve(BYTES_USUAL);
        call.key(names.registry_key(partition))
            .arg(token.generation(partition))
            .arg(&token.node)
            .number(token.link_number)
    }

    /// Adds another fenced call for the same partition: how many keys and arguments it has, and all of them but its token.
    pub(super) fn append_fenced(mut self, other: &Self) -> Self {
        let first = other.ends[FENCING_ARGUMENTS - 1];
        self = self
            .number(other.keys.len() - FENCING_KEYS)
            .number(other.ends.len() - FENCING_ARGUMENTS);
        self.keys.extend_from_slice(&other.keys[FENCING_KEYS..]);
        let moved = self.arguments.len() - first;
        self.arguments.extend_from_slice(&other.arguments[first..]);
        self.ends.extend(other.ends[FENCING_ARGUMENTS..].iter().map(|end| end + moved));
        self
    }

    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    /// The number of its keys.
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
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
        write!(self.arguments, "{number}").expect("writing to a Vec cannot fail");
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

    /// Like [`Self::run`], whose reply is in order with the pub/sub messages.
    pub(super) async fn run_in_order(self, connection: &RedisConnection) -> RedisResult<Value> {
        self.run_on(connection, true).await
    }

    /// Runs the script by its digest, or by its text if the server does not have it. Scripts that were added
    /// after the node had joined are loaded by their first call.
    async fn run_on(&self, connection: &RedisConnection, is_in_order: bool) -> RedisResult<Value> {
        let send = async |command: Cmd| {
            if is_in_order {
                connection.query_in_order(self.partition, &command).await
            } else {
                connection.query(self.partition, &command).await
            }
        };
        let sha = if let Some(sha) = self.script.digest.get() {
            sha
        } else {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(&self.script.text);
            let sha = connection.query(self.partition, &load).await?;
            self.script.digest.get_or_init(|| sha)
        };
        match send(self.command("EVALSHA", sha)).await {
            Err(error) if is_unknown_script(&error) => {
                send(self.command("EVAL", &self.script.text)).await
            }
            reply => reply,
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The status at the beginning of a fenced script's reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Done,
    /// The deadline had passed; nothing was changed.
    Late,
    /// The fencing token is outdated in this partition; nothing was changed.
    Fenced,
}

/// A script's reply, read value by value.
#[derive(Debug)]
pub(crate) struct ScriptReply(std::vec::IntoIter<Value>);

/// The error for an invalid reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unexpected;

impl ScriptReply {
    pub(crate) fn new(value: Value) -> Result<Self, Unexpected> {
        if let Value::Array(values) = value {
            Ok(Self(values.into_iter()))
        } else {
            Err(Unexpected)
        }
    }

    /// The number of values that are not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Unexpected> {
        let value = self.0.next();
        if let Some(Value::BulkString(bytes)) = value { Ok(bytes) } else { Err(Unexpected) }
    }

    pub(crate) fn text(&mut self) -> Result<String, Unexpected> {
        String::from_utf8(self.bytes()?).map_err(|_| Unexpected)
    }

    /// A count: never negative.
    pub(crate) fn number(&mut self) -> Result<u64, Unexpected> {
        let value = self.0.next();
        let Some(Value::Int(number)) = value else { return Err(Unexpected) };
        u64::try_from(number).map_err(|_| Unexpected)
    }

    pub(crate) fn count(&mut self) -> Result<usize, Unexpected> {
        usize::try_from(self.number()?).map_err(|_| Unexpected)
    }

    pub(crate) fn counts(&mut self) -> Result<Vec<usize>, Unexpected> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.count()).collect()
    }

    pub(crate) fn all_bytes(&mut self) -> Result<Vec<Vec<u8>>, Unexpected> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.bytes()).collect()
    }

    /// The status, and the server's clock in ms. The reply of every fenced script begins with
    /// them.
    pub(super) fn status(&mut self) -> Result<(Status, u64), Unexpected> {
        let status = match self.text()?.as_str() {
            "ok" => Status::Done,
            "late" => Status::Late,
            "fenced" => Status::Fenced,
            _ => return Err(Unexpected),
        };
        Ok((status, self.number()?))
    }

    fn list(&mut self) -> Result<Self, Unexpected> {
        Self::new(self.0.next().ok_or(Unexpected)?)
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>, Unexpected> {
        let mut list = self.list()?;
        (0..list.0.len()).map(|_| list.text()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the check of a deadline may precede the check of the fencing token.
    #[test]
    fn every_script_checks_the_fencing_token_first() {
        for is_redis_cluster in [false, true] {
            let scripts = Scripts::new(is_redis_cluster);
            for script in &scripts.all() {
                // It is the script that registers a node.
                if !Arc::ptr_eq(script, &scripts.heartbeat) {
                    script.assert_fenced();
                }
            }
        }
    }
}
