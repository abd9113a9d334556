//! Mutants that behave like the script that they were made of.

/// The name of the script, the changed line, and the reason.
pub(super) const ACCEPTED: [(&str, &str, &str); 22] = [
    (
        "cache",
        "return tonumber(at or 0), tonumber(bytes or 0), tonumber(expires or 1), id or '0'",
        "both times are over",
    ),
    ("cache", "for at = 7, published - 2, 2 do", "the index is odd, so both loops end at the same"),
    ("cache", "-- break", "the rest of the loop finds nothing again"),
    (
        "cache",
        "if redis.call('PTTL', KEYS[at]) <= tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[at], ARGV[5]) end",
        "it sets the time to live that the key has",
    ),
    ("commit", "for number = 0, queues do dropped[number] = 0 end", "a reply has no item 0"),
    ("commit", "for number = 0, queues do", "a reply has no item 0"),
    (
        "expire",
        "local holder, holds = string.match(redis.call('HGET', registry, 'c:' .. node) or '~', '^(%S+) (%d+)$')",
        "both texts are no claim",
    ),
    (
        "heartbeat",
        "return tonumber(lease and string.match(lease, '^(%-?%d+) ') or 1)",
        "both times are over",
    ),
    (
        "heartbeat",
        "ends, length = tonumber(ends or 1), tonumber(length or lease)",
        "both times are over",
    ),
    (
        "heartbeat",
        "if stood_still or now + length <= ends then set('e:' .. name, string.format('%.0f %d', now + length, length)) end",
        "it sets the end that the lease has",
    ),
    (
        "heartbeat",
        "if fields[field] and now <= tonumber(fields[field]) then set(field, now) end",
        "it sets the time that the field has",
    ),
    (
        "heartbeat",
        "local info = ARGV[14] == '1' and redis.call('INFO', 'server')",
        "each Redis has INFO; it serves others that have none",
    ),
    (
        "scan",
        "local page = redis.call('HSCAN', KEYS[2], cursor, 'MATCH', ARGV[5], 'COUNT', 101)",
        "for Redis the count is a hint",
    ),
    (
        "scan",
        "local page = redis.call('HSCAN', KEYS[2], cursor, 'MATCH', ARGV[5], 'COUNT', 99)",
        "for Redis the count is a hint",
    ),
    (
        "scan",
        "run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or '~'",
        "each Redis has a run id; it serves others that have none",
    ),
    ("split", "for at = #ARGV - 1, 4, -2 do", "the index is odd, so both loops end at the same"),
    (
        "sync",
        "if true or (known[name] == nil) then known[name] = redis.call('HEXISTS', registry, 'n:' .. name) == 1 end",
        "it only asks again",
    ),
    (
        "sync",
        "elseif true or (tonumber(nodes) ~= counts[user]) then",
        "it sets the value that the field has",
    ),
    (
        "sync",
        "for field = 1, #all, 1 do",
        "a value that looks like a field names one that is removed as well, or none",
    ),
    ("sync", "if KEYS[7] then", "the log and its state come together"),
    (
        "sync",
        "if has('p') then stamp = math.max(stamp, 1 + tonumber(ours('HGET', KEYS[7], 'n') or 1)) end",
        "the time is later",
    ),
    ("unforwarded", "elseif bytes > 1 then", "each record has more bytes"),
];
