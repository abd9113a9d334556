//! The commands on the data of one server.

mod hashes;
mod keys;
mod lists;
mod scan;
mod sets;
mod sorted;
mod streams;
mod strings;

use super::{
    replies::{Bytes, ModelError, Reply, bulk},
    store::ModelStore,
};
use redis::Value;

/// The properties of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// The number of words including the name; if negative, the minimum number.
    arity: i32,
    pub(crate) access: Access,
    pub(crate) keys: Keys,
    run: fn(&mut ModelStore, &[Bytes], Protocol) -> Reply,
}

/// Whether a command changes data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Read,
    /// Changes data, and is executed when memory is short.
    Write,
    /// Changes data, and is rejected when memory is short.
    Grow,
}

/// Which words of a command are keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    None,
    First,
    All,
    /// Every second word, beginning after the name.
    Pairs,
}

/// The receiver of a reply: a connection uses RESP3, a script gets the types of RESP2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Resp2,
    Resp3,
}

use Access::{Grow, Read, Write};

/// Finds a command by its name in upper case.
pub(crate) fn find(name: &[u8]) -> Option<Spec> {
    let spec = |arity, access, keys, run| Some(Spec { arity, access, keys, run });
    let first = |arity, access, run| spec(arity, access, Keys::First, run);
    match name {
        b"HGET" => first(3, Read, hashes::hget),
        b"HMGET" => first(-3, Read, hashes::hmget),
        b"HSET" => first(-4, Grow, hashes::hset),
        b"HMSET" => first(-4, Grow, hashes::hmset),
        b"HSETNX" => first(4, Grow, hashes::hsetnx),
        b"HDEL" => first(-3, Write, hashes::hdel),
        b"HGETALL" => first(2, Read, hashes::hgetall),
        b"HKEYS" => first(2, Read, hashes::hkeys),
        b"HVALS" => first(2, Read, hashes::hvals),
        b"HLEN" => first(2, Read, hashes::hlen),
        b"HSTRLEN" => first(3, Read, hashes::hstrlen),
        b"HEXISTS" => first(3, Read, hashes::hexists),
        b"HINCRBY" => first(4, Grow, hashes::hincrby),
        b"HSCAN" => first(-3, Read, scan::hscan),
        b"SADD" => first(-3, Grow, sets::sadd),
        b"SREM" => first(-3, Write, sets::srem),
        b"SCARD" => first(2, Read, sets::scard),
        b"SISMEMBER" => first(3, Read, sets::sismember),
        b"SMISMEMBER" => first(-3, Read, sets::smismember),
        b"SMEMBERS" => first(2, Read, sets::smembers),
        b"SRANDMEMBER" => first(-2, Read, sets::srandmember),
        b"SPOP" => first(-2, Write, sets::spop),
        b"SSCAN" => first(-3, Read, scan::sscan),
        b"ZADD" => first(-4, Grow, sorted::zadd),
        b"ZINCRBY" => first(4, Grow, sorted::zincrby),
        b"ZREM" => first(-3, Write, sorted::zrem),
        b"ZSCORE" => first(3, Read, sorted::zscore),
        b"ZCARD" => first(2, Read, sorted::zcard),
        b"ZCOUNT" => first(4, Read, sorted::zcount),
        b"ZRANK" => first(3, Read, sorted::zrank),
        b"ZRANGE" => first(-4, Read, sorted::zrange),
        b"ZRANGEBYSCORE" => first(-4, Read, sorted::zrangebyscore),
        b"ZREMRANGEBYSCORE" => first(4, Write, sorted::zremrangebyscore),
        b"ZREMRANGEBYRANK" => first(4, Write, sorted::zremrangebyrank),
        b"LPUSH" => first(-3, Grow, lists::lpush),
        b"RPUSH" => first(-3, Grow, lists::rpush),
        b"LPOP" => first(-2, Write, lists::lpop),
        b"RPOP" => first(-2, Write, lists::rpop),
        b"LLEN" => first(2, Read, lists::llen),
        b"LRANGE" => first(4, Read, lists::lrange),
        b"LINDEX" => first(3, Read, lists::lindex),
        b"LTRIM" => first(4, Write, lists::ltrim),
        b"LREM" => first(4, Write, lists::lrem),
        b"LSET" => first(4, Grow, lists::lset),
        b"LPOS" => first(-3, Read, lists::lpos),
        b"XADD" => first(-5, Grow, streams::xadd),
        b"XTRIM" => first(4, Write, streams::xtrim),
        b"XLEN" => first(2, Read, streams::xlen),
        b"XRANGE" => first(-4, Read, streams::xrange),
        b"XREVRANGE" => first(-4, Read, streams::xrevrange),
        name => find_rest(name),
    }
}

fn find_rest(name: &[u8]) -> Option<Spec> {
    let spec = |arity, access, keys, run| Some(Spec { arity, access, keys, run });
    let first = |arity, access, run| spec(arity, access, Keys::First, run);
    match name {
        b"GET" => first(2, Read, strings::get),
        b"MGET" => spec(-2, Read, Keys::All, strings::mget),
        b"SET" => first(-3, Grow, strings::set),
        b"MSET" => spec(-3, Grow, Keys::Pairs, strings::mset),
        b"SETNX" => first(3, Grow, strings::setnx),
        b"GETDEL" => first(2, Write, strings::getdel),
        b"GETRANGE" => first(4, Read, strings::getrange),
        b"STRLEN" => first(2, Read, strings::strlen),
        b"APPEND" => first(3, Grow, strings::append),
        b"INCR" => first(2, Grow, strings::incr),
        b"DECR" => first(2, Grow, strings::decr),
        b"INCRBY" => first(3, Grow, strings::incrby),
        b"DECRBY" => first(3, Grow, strings::decrby),
        b"DEL" | b"UNLINK" => spec(-2, Write, Keys::All, keys::del),
        b"EXISTS" => spec(-2, Read, Keys::All, keys::exists),
        b"TYPE" => first(2, Read, keys::type_name),
        b"PTTL" => first(2, Read, keys::pttl),
        b"TTL" => first(2, Read, keys::ttl),
        b"PEXPIRETIME" => first(2, Read, keys::pexpiretime),
        b"PEXPIRE" => first(-3, Write, keys::pexpire),
        b"EXPIRE" => first(-3, Write, keys::expire),
        b"PEXPIREAT" => first(-3, Write, keys::pexpireat),
        b"PERSIST" => first(2, Write, keys::persist),
        b"FLUSHALL" | b"FLUSHDB" => spec(-1, Write, Keys::None, keys::flush),
        b"DBSIZE" => spec(1, Read, Keys::None, keys::dbsize),
        b"KEYS" => spec(2, Read, Keys::None, keys::keys),
        b"SCAN" => spec(-2, Read, Keys::None, scan::scan),
        b"TIME" => spec(1, Read, Keys::None, keys::time),
        b"PING" => spec(-1, Read, Keys::None, keys::ping),
        b"ECHO" => spec(2, Read, Keys::None, keys::echo),
        _ => None,
    }
}

impl Spec {
    /// Fails if the number of words is wrong.
    pub(crate) fn check_arity(&self, command: &[Bytes]) -> Result<(), ModelError> {
        let count = i32::try_from(command.len()).unwrap_or(i32::MAX);
        let is_right = if self.arity < 0 { -self.arity <= count } else { count == self.arity };
        if is_right { Ok(()) } else { Err(wrong_arity(command)) }
    }

    /// The keys of a command of the right arity.
    pub(crate) fn keys<'a>(&self, command: &'a [Bytes]) -> Vec<&'a Bytes> {
        match self.keys {
            Keys::None => Vec::new(),
            Keys::First => vec![&command[1]],
            Keys::All => command[1..].iter().collect(),
            Keys::Pairs => command[1..].iter().step_by(2).collect(),
        }
    }

    /// Runs a command of the right arity. Its changes are added to the store's effects.
    pub(crate) fn run(
        &self,
        store: &mut ModelStore,
        command: &[Bytes],
        protocol: Protocol,
    ) -> Reply {
        if self.access == Read {
            return (self.run)(store, command, protocol);
        }
        let others = store.effects.len();
        let reply = (self.run)(store, command, protocol)?;
        // Commands with random choices add their effects themselves.
        if store.effects.len() == others && !is_random(command) {
            store.effects.push(command.to_vec());
        }
        Ok(reply)
    }
}

fn is_random(command: &[Bytes]) -> bool {
    command[0].eq_ignore_ascii_case(b"SPOP")
}

/// The error for a command with too few words or too many.
pub(crate) fn wrong_arity(command: &[Bytes]) -> ModelError {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    ModelError::new(format!("ERR wrong number of arguments for '{name}' command"))
}

/// Whether a word is this option, ignoring case.
fn is(word: &[u8], option: &str) -> bool {
    word.eq_ignore_ascii_case(option.as_bytes())
}

fn bulks<'a>(items: impl IntoIterator<Item = &'a Bytes>) -> Value {
    Value::Array(items.into_iter().map(|item| bulk(item.clone())).collect())
}

/// The range between two indexes, which count from the end if they are negative.
fn range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = i64::try_from(len).expect("it fits");
    let from = |index: i64| if index < 0 { (len.saturating_add(index)).max(0) } else { index };
    let start = from(start);
    let stop = if stop < 0 { len.saturating_add(stop) } else { stop.min(len - 1) };
    if stop < start || len <= start {
        return 0..0;
    }
    let index = |index: i64| usize::try_from(index).expect("within the sequence");
    index(start)..index(stop + 1)
}
