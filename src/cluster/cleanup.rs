//! Cleaning up after a node that is gone without a word.

use super::{
    assert::{Verdict, assertion_call, read, write_index},
    link::Connection,
    logged::{self, Wanted},
    manager::{Manager, Outcome},
    scripts::Call,
    shared::Shared,
    topic::Assertion,
};
use crate::{config::AppConfig, hub::Hub};
use redis::{RedisResult, cmd};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// One node cleans up after another.
#[derive(Debug)]
pub(super) struct CleanUp {
    pub(super) shared: Arc<Shared>,
    pub(super) hubs: HashMap<Arc<str>, Arc<Hub>>,
    /// Who cleans up.
    pub(super) by: String,
    /// After whom.
    pub(super) node: String,
}

/// How long a claim holds; it is renewed with each round.
const CLAIM: Duration = Duration::from_secs(5);
/// Topics that are cleaned in one round.
const PER_ROUND: usize = 256;

impl CleanUp {
    pub(super) async fn run(self, mut connection: Connection) -> Outcome {
        match self.clean(&mut connection).await {
            Ok(Some(topics)) => {
                self.shared.metrics.cleaned_up();
                tracing::warn!(node = self.node, topics, "cleaned up after a node that is gone");
            }
            // Somebody else does it.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, node = self.node, "cleaning up has to wait"),
        }
        Outcome::Cleaned { node: self.node }
    }

    /// Takes everything away that the node contributed; whoever does it is the only one. Nothing
    /// if that is somebody else.
    async fn clean(&self, connection: &mut Connection) -> RedisResult<Option<usize>> {
        let names = &self.shared.names;
        let topics_of = names.topics_of(&self.node);
        let mut cleaned = 0;
        loop {
            if !self.claim(connection).await? {
                return Ok(None);
            }
            let mut some = cmd("SRANDMEMBER");
            some.arg(&topics_of).arg(PER_ROUND);
            let topics: Vec<String> = connection.query(&some).await?;
            if topics.is_empty() {
                break;
            }
            let each = topics.iter().map(|topic| self.clean_topic(topic, connection.clone()));
            for result in futures_util::future::join_all(each).await {
                result?;
            }
            cleaned += topics.len();
            let mut done = cmd("SREM");
            done.arg(&topics_of).arg(&topics);
            connection.query::<()>(&done).await?;
        }
        let mut end = cmd("ZREM");
        end.arg(names.leases()).arg(&self.node);
        connection.query::<()>(&end).await?;
        Ok(Some(cleaned))
    }

    async fn claim(&self, connection: &mut Connection) -> RedisResult<bool> {
        let call = Call::of(&self.shared.scripts.claim)
            .key(self.shared.names.leases())
            .key(self.shared.names.claim(&self.node))
            .arg(&*self.node)
            .arg(&*self.by)
            .number(CLAIM.as_millis());
        Ok(call.run(connection).await? == redis::Value::Int(1))
    }

    async fn clean_topic(&self, topic: &str, mut connection: Connection) -> RedisResult<()> {
        let Some(name) = self.shared.names.parse(topic) else {
            self.shared.metrics.foreign("the name of a topic");
            return Ok(());
        };
        // Of an app that only the other node knew, nobody is here to be told anything.
        let unknown = AppConfig::default();
        let hub = self.hubs.get(&name.app_id);
        let app = hub.map(|hub| hub.app());
        let config = app.as_ref().map_or(&unknown, |app| &app.config);
        let wanted = hub.map(|hub| Wanted::of(hub, &name.subject)).unwrap_or_default();
        let nothing = Assertion { is_full: true, ..Assertion::default() };
        let now = Instant::now();
        let call = assertion_call(&self.shared, &name, (config, wanted), &self.node, &nothing, now);
        match read(call.run(&mut connection).await?, now) {
            Ok(Verdict::Done(_, turn)) => {
                if self.shared.is_cluster {
                    if let Some(hub) = hub {
                        logged::log(hub, &name.subject, &turn);
                    }
                    write_index(&self.shared, &name, &mut connection, &turn).await;
                }
                Ok(())
            }
            Ok(Verdict::Late) | Err(_) => {
                Err(redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
            }
        }
    }
}

impl Manager {
    /// Cleans up after a node whose lease has ended, unless somebody does.
    pub(super) fn clean_up_after(&mut self, node: String) {
        let is_joined = self.membership.is_joined();
        if !is_joined || node == self.membership.node() || self.cleaning.contains(&node) {
            return;
        }
        let Some(connection) = self.connection.clone() else { return };
        self.cleaning.insert(node.clone());
        let cleaning = CleanUp {
            shared: Arc::clone(&self.shared),
            hubs: self.hubs.clone(),
            by: self.membership.node(),
            node,
        };
        self.begin(cleaning.run(connection));
    }
}

/// Notes what a node may have left behind, and that its lease has ended: whoever beats next cleans
/// up after it.
pub(super) async fn condemn(
    shared: Arc<Shared>,
    mut connection: Connection,
    node: String,
    topics: Vec<Arc<str>>,
) {
    let noted: RedisResult<()> = async {
        for some in topics.chunks(PER_ROUND) {
            let mut noting = cmd("SADD");
            noting.arg(shared.names.topics_of(&node));
            for topic in some {
                noting.arg(&**topic);
            }
            connection.query::<()>(&noting).await?;
        }
        let mut end = cmd("ZADD");
        end.arg(shared.names.leases()).arg(0).arg(&node);
        connection.query(&end).await
    }
    .await;
    if let Err(error) = noted {
        tracing::warn!(%error, node, "a former name was not given up");
    }
}
