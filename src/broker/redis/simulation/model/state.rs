//! The state of a server that scripts and connections access: data, subscriptions, slots, and rejection rules.

use super::{
    commands::{self, Access, Protocol, Spec},
    lua::LuaHost,
    pubsub::{Space, Subscriptions},
    replies::{Bytes, ModelError, Reply, bulk, int},
    slots::Slots,
    store::ModelStore,
};
use std::{borrow::Cow, collections::BTreeMap};

/// The commands that a server rejects, and the order of its pushes.
#[expect(clippy::struct_excessive_bools, reason = "each is a state of a server by itself")]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rules {
    /// The server is a replica: writes fail with `READONLY`.
    pub(crate) read_only: bool,
    /// Commands that need memory fail with `OOM`.
    pub(crate) out_of_memory: bool,
    /// Writes fail with `MISCONF`, since saving has failed.
    pub(crate) cannot_save: bool,
    /// Every command fails with this line, such as `NOPERM …` or `LOADING …`.
    pub(crate) everything: Option<String>,
    /// Pushes to the publishing connection follow the reply to its command, as from Redis 7.2 on, instead of preceding
    /// it.
    pub(crate) pushes_after_reply: bool,
}

/// The part of a server that commands access.
#[derive(Debug)]
pub(crate) struct ModelState {
    pub(super) store: ModelStore,
    pub(super) subscriptions: Subscriptions,
    pub(super) slots: Option<Slots>,
    pub(super) rules: Rules,
    pub(super) run_id: String,
    pub(super) settings: BTreeMap<String, String>,
    /// Whether the running script has written already; then it may use more memory.
    pub(super) script_has_written: bool,
    /// Whether the running command was preceded by `ASKING`.
    pub(super) is_asking: bool,
}

const WRONG_ARITY: ModelError =
    ModelError(Cow::Borrowed("ERR Wrong number of args calling Redis command from script"));
const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
    disk. Commands that may modify the data set are disabled, because this instance is configured to report errors \
    during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
    details about the RDB error.";

impl ModelState {
    pub(super) fn new(seed: u64, run_id: String) -> Self {
        let settings = [("maxmemory-policy", "noeviction"), ("min-replicas-to-write", "0")];
        Self {
            run_id,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            store: ModelStore::new(seed),
            subscriptions: Subscriptions::default(),
            slots: None,
            rules: Rules::default(),
            script_has_written: false,
            is_asking: false,
        }
    }

    /// Fails if the server rejects commands with this access.
    pub(super) fn check_rules(&self, access: Access) -> Result<(), ModelError> {
        if access == Access::Read {
            return Ok(());
        }
        if self.rules.read_only {
            return Err(ModelError::new("READONLY You can't write against a read only replica."));
        }
        if self.rules.cannot_save {
            return Err(ModelError::new(MISCONF));
        }
        if self.rules.out_of_memory && access == Access::Grow && !self.script_has_written {
            let text = "OOM command not allowed when used memory > 'maxmemory'.";
            return Err(ModelError::new(text));
        }
        Ok(())
    }

    /// Fails if the keys belong to another server.
    pub(super) fn check_keys(
        &mut self,
        keys: &[&Bytes],
        is_pubsub: bool,
    ) -> Result<(), ModelError> {
        let Some(slots) = &self.slots else { return Ok(()) };
        slots.check(&mut self.store, keys, self.is_asking, is_pubsub)
    }

    /// Executes `PUBLISH` or `SPUBLISH`.
    pub(super) fn publish(&mut self, space: Space, command: &[Bytes]) -> Reply {
        let [_, channel, message] = command else { return Err(commands::wrong_arity(command)) };
        assert!(
            space == Space::Shard || self.slots.is_none(),
            "the model does not support PUBLISH in a Redis Cluster"
        );
        Ok(int(self.subscriptions.publish(space, channel, message)))
    }

    pub(super) fn is_replica(&self) -> bool {
        self.rules.read_only || self.slots.as_ref().is_some_and(|slots| slots.master.is_some())
    }

    /// The text of `INFO`, with the sections that nodes read.
    pub(super) fn info(&self, sections: &[Bytes]) -> String {
        let wants = |section: &str| {
            let mut all = sections.iter();
            sections.is_empty() || all.any(|word| word.eq_ignore_ascii_case(section.as_bytes()))
        };
        let mut text = String::new();
        if wants("server") {
            let mode = if self.slots.is_some() { "cluster" } else { "standalone" };
            text += "# Server\r\nredis_version:7.0.15\r\n";
            text.extend(["redis_mode:", mode, "\r\nrun_id:", &self.run_id, "\r\n"]);
        }
        if wants("memory") {
            let policy = &self.settings["maxmemory-policy"];
            text.extend(["# Memory\r\nmaxmemory_policy:", policy, "\r\n"]);
        }
        if wants("replication") {
            let role = if self.is_replica() { "slave" } else { "master" };
            text.extend(["# Replication\r\nrole:", role, "\r\nconnected_slaves:0\r\n"]);
        }
        text
    }

    fn call_data(&mut self, spec: Spec, command: &[Bytes]) -> Reply {
        spec.check_arity(command).map_err(|_| WRONG_ARITY)?;
        self.check_rules(spec.access)?;
        self.script_has_written |= spec.access != Access::Read;
        self.check_own(&spec.keys(command), false)?;
        spec.run(&mut self.store, command, Protocol::Resp2)
    }

    /// Like [`check_keys`](Self::check_keys), for a command within a script.
    fn check_own(&mut self, keys: &[&Bytes], is_pubsub: bool) -> Result<(), ModelError> {
        self.check_keys(keys, is_pubsub).map_err(|failure| match failure.0.split(' ').next() {
            Some("MOVED" | "ASK" | "TRYAGAIN") => {
                ModelError::new("ERR Script attempted to access a non local key in a cluster node")
            }
            _ => failure,
        })
    }
}

impl LuaHost for ModelState {
    fn call(&mut self, command: &mut [Bytes]) -> Reply {
        command[0].make_ascii_uppercase();
        if let Some(spec) = commands::find(&command[0]) {
            return self.call_data(spec, command);
        }
        match command[0].as_slice() {
            b"PUBLISH" | b"SPUBLISH" if command.len() != 3 => Err(WRONG_ARITY),
            b"PUBLISH" => self.publish(Space::Global, command),
            b"INFO" => Ok(bulk(self.info(&command[1..]))),
            b"SPUBLISH" => {
                self.check_own(&[&command[1]], true)?;
                self.publish(Space::Shard, command)
            }
            b"SUBSCRIBE" | b"UNSUBSCRIBE" | b"SSUBSCRIBE" | b"SUNSUBSCRIBE" | b"EVAL"
            | b"EVALSHA" | b"SCRIPT" => {
                Err(ModelError::new("ERR This Redis command is not allowed from script"))
            }
            name => {
                panic!("the model does not support the command {:?}", String::from_utf8_lossy(name))
            }
        }
    }
}
