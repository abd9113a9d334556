//! Conversions between the values of Redis and Lua in scripts.

use super::ModelAndRedis;

/// Scripts without keys and arguments.
const SCRIPTS: &[&str] = &[
    "return 1",
    "return -1.9",
    "return 1e15",
    "return 0/0 == 0/0",
    "return true",
    "return false",
    "return nil",
    "return",
    "return 'text'",
    "return '\\0\\255'",
    "return {}",
    "return {1, 2, nil, 4}",
    "return {1, 'a', {2, {}}, true, false, 3}",
    "return {ok = 'fine'}",
    "return {ok = 'OK'}",
    "return {err = 'BAD it is'}",
    "return {err = 'bad'}",
    "return {1, {err = 'BAD within'}, {ok = 'x'}}",
    "return {a = 1}",
    "return redis.error_reply('BAD it is')",
    "return redis.error_reply('-BAD it is')",
    "return redis.error_reply('-BAD')",
    "return redis.error_reply(1)",
    "return redis.status_reply('fine')",
    "return redis.status_reply()",
    "return {KEYS[1], ARGV[1], #KEYS, #ARGV}",
    "error('raised')",
    "\n\nerror('raised')",
    "error({err = 'BAD raised'})",
    "local f = function() error('deep') end f()",
    "local x = nil return x.y",
    "return 1 + 'a'",
    "return #nil",
    "return 1 < 'a'",
    "return unknown",
    "unknown = 1",
    "return redis.call()",
    "return redis.pcall()",
    "return redis.call('GET', nil)",
    "return redis.call('GET', {})",
    "return redis.call('GET', true)",
    "return redis.call('GET')",
    "return redis.call('SUBSCRIBE', 'a')",
    "return redis.call('get', 'missing')",
    "redis.call('SET', 'n', 1.5) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 0.1) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1e17) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 123456789012345678) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', -0) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 0) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1/0) return redis.call('GET', 'n')",
    "return redis.call('HINCRBY', 'h', 'f', -0)",
    "return redis.pcall('HINCRBY', 'h', 'f', -('0'))",
    "return redis.call('HSET', 'h', 'a', 0, 'b', 1)",
    "redis.call('SET', 's', 'x') return redis.call('HGET', 's', 'f')",
    "redis.call('SET', 'kept', 'x') redis.call('HGET', 's', 'f')",
    "return redis.call('GET', 'kept')",
    "return redis.pcall('HGET', 's', 'f').err",
    "return redis.call('SET', 's', 'y').ok",
    "return redis.call('TYPE', 's').ok",
    "return type(redis.call('GET', 'missing'))",
    "redis.call('ZADD', 'z', 1.5, 'a', 3, 'b') return redis.call('ZSCORE', 'z', 'a')",
    "return redis.call('ZRANGE', 'z', 0, -1, 'WITHSCORES')",
    "return redis.call('ZRANGEBYSCORE', 'z', '(1', '+inf', 'LIMIT', 0, 1)",
    "return cjson.encode('a\"b\\\\/\\b\\f\\n\\r\\t\\1\\127ü')",
    "return cjson.encode({1, 2.5, true, {a = 'b'}})",
    "return cjson.encode({})",
    "return cjson.encode(1700000000000)",
    "return cjson.decode('{\"a\": [1, {\"b\": null}]}').a[1]",
    "return cjson.decode('[1, \"x\"]')",
    "return tostring(1700000000000) .. ' ' .. 0.1 .. ' ' .. 1e15",
    "return string.format('%.0f', 1700000000000123)",
    "return {string.match('12 34 rest', '^(%d+) (%d+) ')}",
    "return tonumber('0x10')",
    "return tonumber('')",
    "return tostring(nil)",
    "return select('#', unpack({1, 2, 3}))",
    "return table.concat({'a', 1, 'b'}, ',')",
    "return {pcall(error, 'x')}",
    "return {pcall(redis.call, 'HGET', 's', 'f')}",
    "return type(pcall(redis.call, 'HGET', 's', 'f'))",
    "this is no Lua",
    "return redis.call('PUBLISH', 'a', 'b')",
];

#[tokio::test]
async fn scripts_have_the_replies_of_a_real_redis() {
    let mut pair = ModelAndRedis::start().await;
    for script in SCRIPTS {
        pair.send_words(&["EVAL", script, "0"]);
        pair.send_words(&["EVAL", script, "1", "key", "argument"]);
    }
    pair.send_words(&["TIME"]);
    pair.send_words(&["EVAL", "return 1", "-1"]);
    pair.send_words(&["EVAL", "return 1", "2", "a"]);
    pair.send_words(&["EVAL", "return 1", "x"]);
    pair.send_words(&["EVAL", "return 1"]);
    pair.send_words(&["SCRIPT", "LOAD", "return {KEYS, ARGV}"]);
    pair.send_words(&["EVALSHA", "2ca91a1e4a5ab2fa5a0d1d2d04f8ec7a32a4e6e9", "0"]);
    pair.send_words(&["SCRIPT", "LOAD", "return 7"]);
    pair.send_words(&["SCRIPT", "LOAD", "no Lua"]);
}
