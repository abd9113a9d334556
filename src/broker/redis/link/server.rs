//! Connections to one Redis server.

use super::{
    client::{Incoming, RespClient},
    events::ServerId,
    facts::RedisFacts,
    stream::{ROUND_TRIP_TIMEOUT, RedisDialer, ServerAddress, timed_out},
};
use crate::{
    broker::redis::reason::was_rejected,
    config::{RedisTarget, Secret},
};
use redis::{Cmd, RedisError, RedisResult, Value, cmd, from_redis_value};
use std::{fmt, io};
use tokio::time::timeout;

/// Opens connections to servers that share user, password and database.
#[derive(Clone, Debug)]
pub(super) struct ServerConnector {
    pub(super) dialer: RedisDialer,
    username: Option<String>,
    password: Option<Secret>,
    db: i64,
}

/// The two connections to a server.
#[derive(Debug)]
pub(super) struct RedisServer {
    id: ServerId,
    pub(super) address: ServerAddress,
    /// For commands. It has no subscriptions: for Redis it is not a pub/sub client, whose output
    /// buffer is limited.
    commands: RespClient,
    /// For subscriptions, with replies in order with the messages.
    pubsub: RespClient,
}

/// A request to a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServerRequest<'a> {
    Query(&'a Cmd),
    QueryInOrder(&'a Cmd),
    /// With the number of pub/sub channels. The reply is the number of the server.
    Subscribe(&'a Cmd, usize),
    Unsubscribe(&'a Cmd),
}

impl ServerConnector {
    pub(super) fn new(dialer: RedisDialer, target: &RedisTarget) -> Self {
        Self {
            dialer,
            username: target.username.clone(),
            password: target.password.clone(),
            db: target.db,
        }
    }

    /// Opens both connections to a server.
    pub(super) async fn connect_pair(
        &self,
        id: ServerId,
        address: &ServerAddress,
        on_commands: impl Fn(Incoming) + Send + Sync + 'static,
        on_pubsub: impl Fn(Incoming) + Send + Sync + 'static,
    ) -> RedisResult<RedisServer> {
        let (commands, pubsub) = tokio::try_join!(
            self.connect_one(address, on_commands),
            self.connect_one(address, on_pubsub)
        )?;
        Ok(RedisServer { id, address: address.clone(), commands, pubsub })
    }

    /// Opens one connection: RESP3, authenticated, with its database selected.
    pub(super) async fn connect_one(
        &self,
        address: &ServerAddress,
        on_incoming: impl Fn(Incoming) + Send + Sync + 'static,
    ) -> RedisResult<RespClient> {
        let client = RespClient::start(self.dialer.dial(address).await?, on_incoming);
        let mut hello = cmd("HELLO");
        hello.arg(3);
        if let Some(password) = &self.password {
            let username = self.username.as_deref().unwrap_or("default");
            hello.arg("AUTH").arg(username).arg(password.expose());
        }
        let mut setup = vec![hello];
        if self.db != 0 {
            let mut select = cmd("SELECT");
            select.arg(self.db);
            setup.push(select);
        }
        for reply in with_timeout(client.request_all(&setup)).await? {
            reply.extract_error()?;
        }
        Ok(client)
    }
}

impl RedisServer {
    /// Runs a request; with `is_asking`, on a server that is about to receive the keys.
    pub(super) async fn run(
        &self,
        request: ServerRequest<'_>,
        is_asking: bool,
    ) -> RedisResult<Value> {
        let (client, command) = match request {
            ServerRequest::Query(command) => (&self.commands, command),
            ServerRequest::QueryInOrder(command) => (&self.pubsub, command),
            ServerRequest::Subscribe(command, pubsub_channels) => {
                self.pubsub.subscribe(command, pubsub_channels).await?;
                return Ok(Value::Int(self.id.0.into()));
            }
            ServerRequest::Unsubscribe(command) => {
                return self.pubsub.unsubscribe(command).await.map(|()| Value::Nil);
            }
        };
        if !is_asking {
            return client.request(command).await;
        }
        let mut replies = client.request_all(&[cmd("ASKING"), command.clone()]).await?;
        replies.pop().unwrap_or(Value::Nil).extract_error()
    }

    /// The replies to commands on the commands connection, sent together.
    pub(super) async fn request_all(&self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        self.commands.request_all(commands).await
    }

    pub(super) async fn request(&self, command: &Cmd) -> RedisResult<Value> {
        self.commands.request(command).await
    }

    /// Loads scripts. Returns their digests, in order.
    pub(super) async fn load(&self, scripts: &[&str]) -> RedisResult<Vec<String>> {
        let load = |script: &&str| {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(*script);
            load
        };
        let commands: Vec<Cmd> = scripts.iter().map(load).collect();
        let replies = self.request_all(&commands).await?;
        let digest = |reply: Value| Ok(from_redis_value(reply.extract_error()?)?);
        replies.into_iter().map(digest).collect()
    }

    /// Checks that the server is a master.
    ///
    /// # Errors
    ///
    /// The server is a replica. Without permission to ask, it is assumed to be a master.
    pub(super) async fn check_role(&self) -> RedisResult<()> {
        let role = match with_timeout(self.request(&cmd("ROLE"))).await {
            Ok(Value::Array(role)) => role,
            Ok(_) => return Ok(()),
            Err(error) if was_rejected(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let role: Option<String> =
            role.into_iter().next().and_then(|role| from_redis_value(role).ok());
        match role.as_deref() {
            Some("slave") => Err(io::Error::other("this Redis is a replica").into()),
            _ => Ok(()),
        }
    }

    /// What the server says of itself; nothing if the user may not ask.
    pub(super) async fn facts(&self) -> RedisResult<RedisFacts> {
        let info = match with_timeout(self.request(&cmd("INFO"))).await {
            Ok(info) => from_redis_value(info).unwrap_or_default(),
            Err(error) if was_rejected(&error) => String::new(),
            Err(error) => return Err(error),
        };
        Ok(RedisFacts::from_info(self.address.to_string(), &info))
    }

    /// A warning if the server may evict keys.
    pub(super) async fn memory_warning(&self) -> Option<String> {
        let mut info = cmd("INFO");
        info.arg("memory");
        let info: String = from_redis_value(self.request(&info).await.ok()?).ok()?;
        let value = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let policy = value("maxmemory_policy").filter(|policy| policy.starts_with("allkeys-"))?;
        let address = &self.address;
        let when = match value("maxmemory") {
            Some("0") | None => "as soon as maxmemory is set",
            Some(_) => "when its memory is full",
        };
        Some(format!(
            "the Redis at {address} may evict any key {when}: set its maxmemory-policy to \
             noeviction, it is {policy}"
        ))
    }
}

/// Waits for one reply while connecting.
pub(super) async fn with_timeout<T>(
    request: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let late = || Err(RedisError::from(timed_out("a reply of redis", ROUND_TRIP_TIMEOUT)));
    timeout(ROUND_TRIP_TIMEOUT, request).await.unwrap_or_else(|_elapsed| late())
}

impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
