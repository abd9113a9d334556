//! Compares the simulation's model of Redis with a real Redis: the same commands must have the same
//! replies.

mod commands;
mod replay;
mod same;
mod scripts;

#[expect(dead_code, reason = "the simulation uses all of it")]
#[path = "../../../src/broker/redis/simulation/model/mod.rs"]
mod model;

use redis::{Connection, ConnectionLike, Value};
use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kit::Redis;

/// A real server and its model, which receive the same commands.
struct ModelAndRedis {
    real: Connection,
    model: model::server::ModelServer,
    sent: Vec<String>,
    _redis: Redis,
}

/// A command's words.
type Words = Vec<Vec<u8>>;

impl ModelAndRedis {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let url = format!("redis://127.0.0.1:{}/?protocol=resp3", redis.port);
        let client = redis::Client::open(url).expect("an address");
        let mut real = client.get_connection().expect("redis-server runs");
        let info: String =
            redis::cmd("INFO").arg("server").query(&mut real).expect("redis-server answers");
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run_id = run_id.expect("the id of its run").to_owned();
        let engine = Arc::new(model::lua::LuaEngine::new());
        let model = model::server::ModelServer::of_run(&engine, 1, run_id);
        Self { real, model, sent: Vec::new(), _redis: redis }
    }

    /// Sends a command to both servers.
    ///
    /// # Panics
    ///
    /// Panics if the replies differ.
    fn send(&mut self, words: &Words) {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        self.sent.push(Shown(words).to_string());
        let before = now_us();
        let real = self.real.req_packed_command(&command.get_packed_command());
        let real = real.expect("redis-server answers");
        let now = before + (now_us() - before) / 2;
        let mut modelled = self.model.execute(now, 1, words);
        assert_eq!(modelled.len(), 1, "{}", Shown(words));
        let modelled = modelled.remove(0);
        if let Err(difference) = same::check(words, &real, &modelled) {
            let from = self.sent.len().saturating_sub(40);
            panic!(
                "{}\n{difference}\nreal   {}\nmodel  {}\nafter\n{}",
                Shown(words),
                show(&real),
                show(&modelled),
                self.sent[from..].join("\n")
            );
        }
        self.model.take_published();
        self.model.take_pushes();
    }

    fn send_words(&mut self, words: &[&str]) {
        self.send(&words.iter().map(|word| word.as_bytes().to_vec()).collect());
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("it fits")
}

struct Shown<'a>(&'a Words);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in self.0 {
            let text = String::from_utf8_lossy(word);
            if 300 < text.len() {
                write!(f, "({} bytes) ", text.len())?;
            } else {
                write!(f, "{text:?} ")?;
            }
        }
        Ok(())
    }
}

fn show(value: &Value) -> String {
    format!("{value:?}")
}
