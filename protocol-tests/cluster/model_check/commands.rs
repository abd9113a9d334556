//! Random commands, by themselves and within scripts.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{ModelAndRedis, Words};

/// Templates of commands: `K` is a key, `k` a key of a matching type, `F` a name, `V` a value, `N` a number, `I` an
/// index, `X` an id of a stream, `S` a score, `B` a bound of scores, `L` milliseconds to live, `E` seconds, `P` a pattern. Other words are
/// literal.
const FORMS: &[&str] = &[
    "XADD k X F V",
    "XADD k X F V F V",
    "XADD k X F",
    "XADD K X F V",
    "XADD k MAXLEN N X F V",
    "XADD k MAXLEN = 2 X F V",
    "XLEN k",
    "XTRIM k MINID X",
    "XTRIM K MINID X",
    "XRANGE k X X",
    "XRANGE k - +",
    "XRANGE k - + COUNT N",
    "XREVRANGE k + -",
    "XREVRANGE k X X",
    "XREVRANGE k X X COUNT 1",
    "XREVRANGE k X X x 1",
    "PING",
    "PING V",
    "ECHO V",
    "DBSIZE",
    "KEYS P",
    "DEL K",
    "DEL K K",
    "UNLINK K",
    "EXISTS K K",
    "TYPE K",
    "PTTL K",
    "TTL K",
    "PEXPIRETIME K",
    "PEXPIRE K L",
    "EXPIRE K E",
    "PEXPIRE K L NX",
    "PEXPIRE K L XX",
    "PEXPIRE K L GT",
    "PEXPIRE K L LT",
    "PEXPIRE K L x",
    "PEXPIREAT K N",
    "PERSIST K",
    "SCAN 0 COUNT 1000",
    "GET k",
    "MGET K K K",
    "SET k V",
    "SET K V",
    "SET k V NX",
    "SET k V XX",
    "SET k V PX L",
    "SET k V EX 90",
    "SET k V XX PX L",
    "SET k V KEEPTTL",
    "SET k V GET",
    "SET k V NX XX",
    "SET k V PX",
    "SET k V PX x",
    "SET k V PX 0",
    "SET k V NX GET",
    "MSET K V K V",
    "MSET K V K",
    "SETNX k V",
    "SETNX k N",
    "GETDEL k",
    "GETRANGE k I I",
    "STRLEN k",
    "APPEND k V",
    "INCR k",
    "DECR k",
    "INCRBY k N",
    "DECRBY k N",
    "SET k N",
    "HGET k F",
    "HMGET k F F F",
    "HSET k F V",
    "HSET k F V F V",
    "HSET k F V F",
    "HSET k F N",
    "HMSET k F V",
    "HSETNX k F V",
    "HDEL k F F",
    "HGETALL k",
    "HKEYS k",
    "HVALS k",
    "HLEN k",
    "HSTRLEN k F",
    "HEXISTS k F",
    "HINCRBY k F N",
    "HINCRBY k F V",
    "HSCAN k 0 COUNT 1000",
    "HSCAN k 0 MATCH P COUNT 1000",
    "HSCAN k x",
    "HSCAN k 0 COUNT V",
    "SADD k F F",
    "SADD k N",
    "SREM k F F",
    "SCARD k",
    "SISMEMBER k F",
    "SMISMEMBER k F F",
    "SMEMBERS k",
    "SRANDMEMBER k 1000",
    "SRANDMEMBER k x",
    "SRANDMEMBER k 0",
    "SPOP k 1000",
    "SPOP k x",
    "SPOP k 0",
    "SSCAN k 0 COUNT 1000",
    "SSCAN k 0 MATCH P COUNT 1000",
    "ZADD k S F",
    "ZADD k S F S F",
    "ZADD k NX S F",
    "ZADD k XX S F",
    "ZADD k GT S F",
    "ZADD k LT CH S F",
    "ZADD k NX XX S F",
    "ZADD k NX GT S F",
    "ZADD k CH S F",
    "ZADD k S",
    "ZADD k V F",
    "ZINCRBY k S F",
    "ZREM k F F",
    "ZSCORE k F",
    "ZCARD k",
    "ZCOUNT k B B",
    "ZRANK k F",
    "ZRANGE k I I",
    "ZRANGE k I I WITHSCORES",
    "ZRANGE k I I REV",
    "ZRANGEBYSCORE k B B",
    "ZRANGEBYSCORE k B B WITHSCORES",
    "ZRANGEBYSCORE k B B LIMIT I I",
    "ZRANGEBYSCORE k B B LIMIT I",
    "ZRANGEBYSCORE k V V",
    "ZREMRANGEBYSCORE k B B",
    "ZREMRANGEBYRANK k I I",
    "LPUSH k F F",
    "RPUSH k F F",
    "LPOP k",
    "RPOP k",
    "LPOP k I",
    "LPOP k V",
    "LLEN k",
    "LRANGE k I I",
    "LINDEX k I",
    "LINDEX k V",
    "LTRIM k I I",
    "LREM k I F",
    "LSET k I V",
    "LPOS k F",
    "GET",
    "HGET k",
    "HSET k F",
    "SADD k",
    "LPUSH k",
    "ZADD k S",
    "PUBLISH F V",
    "SPUBLISH F V",
    "PUBLISH F",
];

/// One of the rarer steps occurs once in this many commands.
const RARELY: u32 = 60;

struct Generator {
    random: StdRng,
}

impl Generator {
    fn one_of(&mut self, words: &[&str]) -> Vec<u8> {
        words[self.random.random_range(0..words.len())].as_bytes().to_vec()
    }

    fn command(&mut self) -> Words {
        let form = FORMS[self.random.random_range(0..FORMS.len())];
        let name = form.split(' ').next().expect("a name");
        form.split(' ').map(|word| self.word(word, name)).collect()
    }

    fn word(&mut self, word: &str, command: &str) -> Vec<u8> {
        match word {
            "K" => self
                .one_of(&["h1", "h2", "s1", "s2", "z1", "z2", "l1", "l2", "t1", "t2", "x1", "x2"]),
            "k" if self.random.random_range(0..12) == 0 => self.word("K", command),
            "k" => {
                let kind = match command.as_bytes()[0] {
                    b'H' => "h",
                    b'Z' => "z",
                    b'L' => "l",
                    b'X' => "x",
                    _ if command.starts_with("RP") => "l",
                    _ if matches!(command, "SET" | "SETNX" | "STRLEN") => "t",
                    b'S' => "s",
                    _ => "t",
                };
                let number = self.random.random_range(1..=2);
                format!("{kind}{number}").into_bytes()
            }
            "F" => self.one_of(&["a", "b", "c", "d", "n:1", "m:ü", "", "\r\n\0"]),
            "V" => self.one_of(&[
                "x",
                "",
                "-1",
                "7",
                "hello world",
                "\u{e9}\0\n",
                "1e3",
                "-0",
                "+5",
                "007",
            ]),
            "N" => self.one_of(&[
                "0",
                "1",
                "-3",
                "10",
                "9223372036854775807",
                "-9223372036854775808",
                "1000",
            ]),
            "X" => self.one_of(&[
                "0-0", "0", "1", "1-1", "2", "3-0", "4", "5-2", "x", "-1", "1-", "6-7-8",
            ]),
            "I" => self.one_of(&["0", "1", "2", "-1", "-2", "5", "-9", "100"]),
            "S" => self.one_of(&[
                "0",
                "1",
                "2.5",
                "-3",
                "+inf",
                "-inf",
                "1e20",
                "0.1",
                "1700000000000",
            ]),
            "B" => {
                self.one_of(&["0", "(0", "1", "(1", "2.5", "-inf", "+inf", "(1700000000000", "inf"])
            }
            "L" => self.one_of(&["60000", "90000", "0", "-5", "70000"]),
            "E" => self.one_of(&["90", "600", "0", "-1", "9223372036854775807"]),
            "P" => self.one_of(&["*", "a*", "n:?", "[a-b]", "[^a]*", "\\a", "h*", "?1"]),
            word => word.as_bytes().to_vec(),
        }
    }
}

/// How a script runs a command, and how it handles the reply.
const SCRIPTS: &[&str] = &[
    "return redis.call(unpack(ARGV))",
    "return redis.pcall(unpack(ARGV))",
    "local r = redis.pcall(unpack(ARGV)) return {type(r), r}",
    "local r = redis.pcall(unpack(ARGV)) if type(r) == 'table' and r.err then error(r.err) end return r",
    "redis.call('SET', 't1', 'before') return redis.call(unpack(ARGV))",
    "local r = redis.pcall(unpack(ARGV)) return type(r) == 'table' and (r.ok or r.err or #r) or r",
];

fn run(seed: u64, steps: u32, pair: &mut ModelAndRedis) {
    let mut generator = Generator { random: StdRng::seed_from_u64(seed) };
    pair.send_words(&["FLUSHALL"]);
    for _ in 0..steps {
        let mut command = generator.command();
        match generator.random.random_range(0..RARELY) {
            0 => pair.send_words(&["SCRIPT", "FLUSH"]),
            1 => pair.send_words(&["FLUSHDB", "ASYNC"]),
            2..20 => {
                let mut script = vec![b"EVAL".to_vec(), generator.one_of(SCRIPTS), b"0".to_vec()];
                script.append(&mut command);
                pair.send(&script);
            }
            _ => pair.send(&command),
        }
    }
}

#[tokio::test]
async fn random_commands_have_the_replies_of_a_real_redis() {
    let mut pair = ModelAndRedis::start().await;
    for seed in 0..20 {
        println!("seed {seed}");
        run(seed, 3_000, &mut pair);
    }
}
