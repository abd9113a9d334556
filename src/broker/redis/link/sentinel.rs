//! Finds and watches the master through Sentinels.

use super::{
    client::{AbortOnDrop, RespClient},
    events::{LinkEvent, LinkEventSender},
    server::with_timeout,
    stream::{RedisDialer, ServerAddress},
};
use crate::config::Secret;
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use redis::{Cmd, RedisError, RedisResult, cmd, from_redis_value};
use std::{collections::BTreeMap, io, time::Duration};
use tokio::time::{self, MissedTickBehavior};

/// The interval at which the sentinels are asked for the master.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(2);
const MASTER_CHANGED: &str = "Sentinel reports another master";

/// The sentinels of one master.
#[derive(Debug)]
pub(super) struct Sentinels {
    dialer: RedisDialer,
    name: String,
    password: Option<Secret>,
    all: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    address: ServerAddress,
    /// The connection, kept between queries.
    client: Option<RespClient>,
}

impl Sentinels {
    pub(super) fn new(
        dialer: RedisDialer,
        sentinels: &[(String, u16)],
        name: &str,
        password: Option<&Secret>,
    ) -> Self {
        let sentinel = |(host, port): &(String, u16)| Sentinel {
            address: ServerAddress::Tcp(host.clone(), *port),
            client: None,
        };
        Self {
            dialer,
            name: name.to_owned(),
            password: password.cloned(),
            all: sentinels.iter().map(sentinel).collect(),
        }
    }

    /// Finds the master that more than half of the sentinels report, or of those that reply.
    pub(super) async fn master(&mut self) -> RedisResult<ServerAddress> {
        let (dialer, name, password) = (&self.dialer, &self.name, self.password.as_ref());
        let quorum = self.all.len() / 2 + 1;
        let mut queries: FuturesUnordered<_> = self
            .all
            .iter_mut()
            .map(|sentinel| sentinel.query_master(dialer, name, password))
            .collect();
        let mut votes: BTreeMap<ServerAddress, usize> = BTreeMap::new();
        let mut failure = None;
        while let Some(reported) = queries.next().await {
            match reported {
                Ok(address) => {
                    let count = votes.entry(address.clone()).or_default();
                    *count += 1;
                    if quorum <= *count {
                        return Ok(address);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(address, _)| address).ok_or_else(|| {
            failure.unwrap_or_else(|| io::Error::other("there is no sentinel").into())
        })
    }

    /// Watches whether the sentinels still report this master.
    pub(super) fn watch(mut self, master: ServerAddress, events: LinkEventSender) -> AbortOnDrop {
        AbortOnDrop::spawn(async move {
            let mut ticks = time::interval(POLL_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut suspected = None;
            loop {
                ticks.tick().await;
                let other = self.majority().await.filter(|reported| *reported != master);
                if other.is_some() && other == suspected {
                    return events.push(LinkEvent::Lost(MASTER_CHANGED));
                }
                suspected = other;
            }
        })
    }

    /// The master that more than half of the answering sentinels report.
    async fn majority(&mut self) -> Option<ServerAddress> {
        let (dialer, name, password) = (&self.dialer, &self.name, self.password.as_ref());
        let queries =
            self.all.iter_mut().map(|sentinel| sentinel.query_master(dialer, name, password));
        let reported: Vec<ServerAddress> = join_all(queries).await.into_iter().flatten().collect();
        let count =
            |address: &&ServerAddress| reported.iter().filter(|other| other == address).count();
        reported.iter().find(|address| reported.len() < 2 * count(address)).cloned()
    }
}

impl Sentinel {
    async fn query_master(
        &mut self,
        dialer: &RedisDialer,
        name: &str,
        password: Option<&Secret>,
    ) -> RedisResult<ServerAddress> {
        let client = match self.client.take() {
            Some(client) => client,
            None => RespClient::start(dialer.dial(&self.address).await?, |_| {}),
        };
        let reported = with_timeout(get_master(&client, name, password)).await?;
        self.client = Some(client);
        reported
    }
}

/// Queries over a connection. The outer error is one of the connection. Uses RESP2, the only
/// protocol that every sentinel supports.
async fn get_master(
    client: &RespClient,
    name: &str,
    password: Option<&Secret>,
) -> RedisResult<RedisResult<ServerAddress>> {
    let mut commands: Vec<Cmd> = Vec::new();
    if let Some(password) = password {
        let mut auth = cmd("AUTH");
        auth.arg(password.expose());
        commands.push(auth);
    }
    let mut get = cmd("SENTINEL");
    get.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    commands.push(get);
    let replies = client.request_all(&commands).await?;
    let read = || {
        let mut reported = None;
        for reply in replies {
            reported = Some(reply.extract_error()?);
        }
        let address: Option<(String, u16)> = reported.map(from_redis_value).transpose()?.flatten();
        let (host, port) = address.ok_or_else(|| unknown(name))?;
        Ok(ServerAddress::Tcp(host, port))
    };
    Ok(read())
}

fn unknown(name: &str) -> RedisError {
    io::Error::other(format!("the sentinel does not know a master called {name:?}")).into()
}
