//! A Redis server as its connections see it.

use super::{
    commands::{self, Access, Protocol, wrong_arity},
    history::CommandHistory,
    lua::LuaEngine,
    pubsub::Space,
    replies::{Bytes, ModelError, Reply, bulk, integer, to_value},
    slots::{Slots, slot_of},
    state::{ModelState, Rules},
    store::{ModelStore, StoredValue},
};
use redis::{Value, VerbatimFormat};
use sha1::{Digest as _, Sha1};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

/// The id of a connection at a server.
pub(crate) type ConnectionId = u64;

/// A server and its data.
#[derive(Debug)]
pub(crate) struct ModelServer {
    engine: Arc<LuaEngine<ModelState>>,
    /// `None` while a script runs.
    state: Option<Box<ModelState>>,
    history: CommandHistory,
    /// The names of the loaded scripts.
    scripts: BTreeSet<String>,
    asking: BTreeSet<ConnectionId>,
}

impl ModelServer {
    /// An empty server. Its random choices and its run id derive from `seed`.
    pub(crate) fn new(engine: &Arc<LuaEngine<ModelState>>, seed: u64) -> Self {
        Self::of_run(engine, seed, format!("{:040x}", u128::from(seed) << 64 | u128::from(!seed)))
    }

    /// An empty server with this run id.
    pub(crate) fn of_run(engine: &Arc<LuaEngine<ModelState>>, seed: u64, run_id: String) -> Self {
        let state = ModelState::new(seed, run_id);
        Self {
            engine: Arc::clone(engine),
            history: CommandHistory::new(&state.store),
            state: Some(Box::new(state)),
            scripts: BTreeSet::new(),
            asking: BTreeSet::new(),
        }
    }

    /// The server after a restart, or the replica that replaces it: with another run id, no scripts, no connections,
    /// and the data without the last `lost` writes, or no data.
    #[must_use]
    pub(crate) fn successor(&self, seed: u64, lost: Option<usize>) -> Self {
        let mut next = Self::new(&self.engine, seed);
        if let Some(lost) = lost {
            next.state_mut().store = self.history.clone().without(lost);
            next.history = CommandHistory::new(&next.state().store);
        }
        next.state_mut().slots.clone_from(&self.state().slots);
        next.state_mut().rules.clone_from(&self.state().rules);
        next.settings().clone_from(&self.state().settings);
        next
    }

    fn state(&self) -> &ModelState {
        self.state.as_ref().expect("no script is running")
    }

    fn state_mut(&mut self) -> &mut ModelState {
        self.state.as_mut().expect("no script is running")
    }

    pub(crate) fn rules(&mut self) -> &mut Rules {
        &mut self.state_mut().rules
    }

    pub(crate) fn slots(&mut self) -> &mut Option<Slots> {
        &mut self.state_mut().slots
    }

    /// The settings that `CONFIG GET` and `INFO` return, such as `maxmemory-policy`.
    pub(crate) fn settings(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.state_mut().settings
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.state().run_id
    }

    /// The keys that have not expired at this time.
    pub(crate) fn keys(&mut self, now_us: u64) -> Vec<Bytes> {
        self.state_mut().store.now_us = now_us;
        self.state().store.keys().cloned().collect()
    }

    /// Removes a key, as an eviction or a migration does. Later lost writes do not restore it.
    pub(crate) fn take(&mut self, now_us: u64, key: &[u8]) -> Option<StoredValue> {
        self.change(now_us, |store| store.remove(key))
    }

    /// Adds a key that was removed from another server.
    pub(crate) fn put(&mut self, now_us: u64, key: &[u8], entry: StoredValue) {
        self.change(now_us, |store| store.put(key, entry.data, entry.expires_ms));
    }

    fn change<R>(&mut self, now_us: u64, change: impl FnOnce(&mut ModelStore) -> R) -> R {
        let state = self.state.as_mut().expect("no script is running");
        state.store.now_us = now_us;
        let result = change(&mut state.store);
        self.history = CommandHistory::new(&state.store);
        result
    }

    /// Ends the subscriptions of shard channels that no longer belong to this server.
    pub(crate) fn drop_lost_channels(&mut self) {
        let state = self.state_mut();
        let Some(slots) = &state.slots else { return };
        let serves = |channel: &[u8]| {
            let owner = slots.owner(slot_of(channel));
            slots.is_mine(slot_of(channel)) || (owner.is_some() && owner == slots.master.as_ref())
        };
        state.subscriptions.drop_shard_channels(|channel| !serves(channel));
    }

    /// Delivers a message that was published at the master to the subscribers of this server.
    pub(crate) fn receive(&mut self, channel: &Bytes, message: &Bytes) {
        self.state_mut().subscriptions.publish(Space::Shard, channel, message);
        self.state_mut().subscriptions.published.clear();
    }

    /// Removes and returns the pushes that are queued for connections.
    pub(crate) fn take_pushes(&mut self) -> Vec<(ConnectionId, Value)> {
        std::mem::take(&mut self.state_mut().subscriptions.pushes)
    }

    /// Removes and returns the messages that were published on shard channels, which replicas receive too.
    pub(crate) fn take_published(&mut self) -> Vec<(Bytes, Bytes)> {
        std::mem::take(&mut self.state_mut().subscriptions.published)
    }

    /// Whether the connection has subscribed to anything; its output is limited then.
    pub(crate) fn is_subscriber(&self, connection: ConnectionId) -> bool {
        self.state().subscriptions.is_subscriber(connection)
    }

    /// Removes a connection that has ended.
    pub(crate) fn disconnect(&mut self, connection: ConnectionId) {
        self.asking.remove(&connection);
        self.state_mut().subscriptions.disconnect(connection);
    }

    /// Executes a command at a time of this server's clock, in µs since 1970. Returns one reply; for commands that
    /// subscribe, one reply for each channel.
    pub(crate) fn execute(
        &mut self,
        now_us: u64,
        connection: ConnectionId,
        command: &[Bytes],
    ) -> Vec<Value> {
        let mut command = command.to_vec();
        let Some(name) = command.first_mut() else { return Vec::new() };
        name.make_ascii_uppercase();
        let is_asking = self.asking.remove(&connection);
        let state = self.state_mut();
        state.is_asking = is_asking;
        state.script_has_written = false;
        state.store.now_us = now_us;
        if let Some(rejected) = &state.rules.everything {
            return vec![ModelError::new(rejected.clone()).to_value()];
        }
        let space = match command[0].as_slice() {
            b"SUBSCRIBE" | b"UNSUBSCRIBE" => Some(Space::Global),
            b"SSUBSCRIBE" | b"SUNSUBSCRIBE" => Some(Space::Shard),
            _ => None,
        };
        let replies = match space {
            Some(space) => self.subscribe(space, connection, &command),
            None => vec![to_value(self.single(connection, &command))],
        };
        let effects = std::mem::take(&mut self.state_mut().store.effects);
        if !effects.is_empty() {
            self.history.add(now_us, effects);
        }
        replies
    }

    fn subscribe(
        &mut self,
        space: Space,
        connection: ConnectionId,
        command: &[Bytes],
    ) -> Vec<Value> {
        let state = self.state_mut();
        let channels = &command[1..];
        if command[0].ends_with(b"UNSUBSCRIBE") {
            if !channels.is_empty() {
                let end =
                    |channel| state.subscriptions.unsubscribe(space, connection, Some(channel));
                return channels.iter().map(end).collect();
            }
            let own = state.subscriptions.of(space, connection);
            if own.is_empty() {
                return vec![state.subscriptions.unsubscribe(space, connection, None)];
            }
            let end = |channel| state.subscriptions.unsubscribe(space, connection, Some(channel));
            return own.iter().map(end).collect();
        }
        if channels.is_empty() {
            return vec![wrong_arity(command).to_value()];
        }
        if space == Space::Shard {
            let keys: Vec<&Bytes> = channels.iter().collect();
            if let Err(failure) = state.check_keys(&keys, true) {
                return vec![failure.to_value()];
            }
        }
        let begin = |channel| state.subscriptions.subscribe(space, connection, channel);
        channels.iter().map(begin).collect()
    }

    fn single(&mut self, connection: ConnectionId, command: &[Bytes]) -> Reply {
        let state = self.state_mut();
        if let Some(spec) = commands::find(&command[0]) {
            spec.check_arity(command)?;
            state.check_keys(&spec.keys(command), false)?;
            state.check_rules(if command[0] == b"PING" && state.rules.cannot_save {
                Access::Write
            } else {
                spec.access
            })?;
            return spec.run(&mut state.store, command, Protocol::Resp3);
        }
        match (command[0].as_slice(), &command[1..]) {
            (b"PUBLISH", _) => state.publish(Space::Global, command),
            (b"SPUBLISH", [channel, ..]) => {
                state.check_keys(&[channel], true)?;
                state.publish(Space::Shard, command)
            }
            (b"EVALSHA", [name, rest @ ..]) => {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                self.run_script(command, &name, rest)
            }
            (b"EVAL", [text, rest @ ..]) => {
                let name = self.load(text)?;
                self.run_script(command, &name, rest)
            }
            (b"SCRIPT", [word, text]) if word.eq_ignore_ascii_case(b"LOAD") => {
                self.load(text).map(bulk)
            }
            (b"SCRIPT", [word, ..]) if word.eq_ignore_ascii_case(b"FLUSH") => {
                self.scripts.clear();
                Ok(Value::Okay)
            }
            (b"ASKING", []) if self.state().slots.is_some() => {
                self.asking.insert(connection);
                Ok(Value::Okay)
            }
            (b"INFO", sections) => {
                let text = self.state().info(sections);
                Ok(Value::VerbatimString { format: VerbatimFormat::Text, text })
            }
            (b"CONFIG", [word, name]) if word.eq_ignore_ascii_case(b"GET") => Ok(self.config(name)),
            (b"CLUSTER", [word]) if word.eq_ignore_ascii_case(b"SLOTS") => self.cluster_slots(),
            (b"HELLO", _) => Ok(self.hello(connection)),
            (b"ROLE", []) => Ok(self.role()),
            (b"CLIENT", [word, ..]) if word.eq_ignore_ascii_case(b"SETINFO") => Ok(Value::Okay),
            (b"SELECT", [number]) if self.state().slots.is_none() || number == b"0" => {
                Ok(Value::Okay)
            }
            (name, _) => {
                panic!("the model does not support the command {:?}", String::from_utf8_lossy(name))
            }
        }
    }

    fn load(&mut self, text: &[u8]) -> Result<String, ModelError> {
        let mut name = String::with_capacity(40);
        for byte in Sha1::digest(text) {
            write!(name, "{byte:02x}").expect("writing to memory does not fail");
        }
        self.engine.compile(&name, text)?;
        self.scripts.insert(name.clone());
        Ok(name)
    }

    fn run_script(&mut self, command: &[Bytes], name: &str, rest: &[Bytes]) -> Reply {
        let Some((count, words)) = rest.split_first() else { return Err(wrong_arity(command)) };
        let count = usize::try_from(integer(count)?)
            .map_err(|_| ModelError::new("ERR Number of keys can't be negative"))?;
        if words.len() < count {
            return Err(ModelError::new("ERR Number of keys can't be greater than number of args"));
        }
        let (keys, args) = words.split_at(count);
        self.state_mut().check_keys(&keys.iter().collect::<Vec<_>>(), false)?;
        if !self.scripts.contains(name) {
            return Err(ModelError::new("NOSCRIPT No matching script. Please use EVAL."));
        }
        let state = self.state.take().expect("one script at a time");
        let (state, reply) = self.engine.run(name, state, keys, args);
        self.state = Some(state);
        reply
    }

    fn config(&self, name: &[u8]) -> Value {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let found =
            self.state().settings.get(&name).map(|value| (bulk(name), bulk(value.as_str())));
        Value::Map(found.into_iter().collect())
    }

    fn hello(&self, connection: ConnectionId) -> Value {
        let id = i64::try_from(connection).expect("few connections");
        let mode = if self.state().slots.is_some() { "cluster" } else { "standalone" };
        let role = if self.state().is_replica() { "replica" } else { "master" };
        let fields = [
            ("server", bulk("redis")),
            ("version", bulk("7.0.15")),
            ("proto", Value::Int(3)),
            ("id", Value::Int(id)),
            ("mode", bulk(mode)),
            ("role", bulk(role)),
            ("modules", Value::Array(Vec::new())),
        ];
        Value::Map(fields.map(|(name, value)| (bulk(name), value)).into())
    }

    fn role(&self) -> Value {
        if self.state().is_replica() {
            let state =
                [bulk("slave"), bulk("master"), Value::Int(6379), bulk("connected"), Value::Int(0)];
            return Value::Array(state.into());
        }
        Value::Array(vec![bulk("master"), Value::Int(0), Value::Array(Vec::new())])
    }

    fn cluster_slots(&self) -> Reply {
        let no_cluster = ModelError::new("ERR This instance has cluster support disabled");
        self.state().slots.as_ref().map(Slots::to_value).ok_or(no_cluster)
    }
}
