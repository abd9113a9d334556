//! Mutants that are equivalent to the original script.

/// The name of the script, the changed line, and the reason.
pub(super) const ACCEPTED: [(&str, &str, &str); 35] = [
    (
        "cache",
        "return tonumber(at or 0), tonumber(bytes or 0), tonumber(expires or 1), id or '0'",
        "0 and 1 are both in the past",
    ),
    (
        "cache",
        "for at = 7, first_published_arg - 2, 2 do",
        "the index is odd, so both loops end at the same index",
    ),
    ("cache", "-- break", "no later key matches"),
    (
        "cache",
        "if redis.call('PTTL', KEYS[at]) <= tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[at], ARGV[5]) end",
        "it sets the time to live that the key has",
    ),
    ("commit", "for number = 0, queues do dropped[number] = 0 end", "a reply has no item 0"),
    ("commit", "for number = 0, queues do", "a reply has no item 0"),
    (
        "expire",
        "local holder, claim_end_ms = string.match(redis.call('HGET', registry, 'c:' .. node) or '~', '^(%S+) (%d+)$')",
        "neither text matches the pattern of a claim",
    ),
    (
        "heartbeat",
        "return tonumber(lease and string.match(lease, '^(%-?%d+) ') or 1)",
        "0 and 1 are both in the past",
    ),
    (
        "heartbeat",
        "ends, length = tonumber(ends or 1), tonumber(length or lease)",
        "0 and 1 are both in the past",
    ),
    (
        "heartbeat",
        "if was_paused or now + length <= ends then set('e:' .. name, string.format('%.0f %d', now + length, length)) end",
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
        "each Redis has INFO; it is for servers without INFO",
    ),
    (
        "publish",
        "for _, entry in ipairs(call_or_reset('XRANGE', log, '-', '+', 'COUNT', 66)) do",
        "at most 64 events are dropped, and one is left",
    ),
    (
        "publish",
        "dropped_full = dropped_full + drop_oldest(log, log_ms, function(_, _, left) return left > (@CHANNEL_LOG_BYTES@ + 1) * 7 / 8 end)",
        "bytes are whole numbers",
    ),
    (
        "publish",
        "local has_readers = tonumber(fields[5] or 0) > 0 or now < tonumber(fields[6] or 1)",
        "0 and 1 are both in the past",
    ),
    (
        "publish",
        "local log, ends_ms = unpack(redis.call('ZRANGE', ends, 0, 1, 'WITHSCORES'))",
        "only the first log is read",
    ),
    (
        "publish",
        "local log, oldest_ms = unpack(call_or_reset('ZRANGE', order, 0, 1, 'WITHSCORES'))",
        "only the first log is read",
    ),
    (
        "publish",
        "if tonumber(redis.call('HGET', sizes, ' ') or 1) <= @CHANNEL_LOGS_BYTES@ then break end",
        "0 and 1 are both below the limit",
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
        "each Redis has a run id; it is for servers without INFO",
    ),
    (
        "split",
        "for at = #ARGV - 1, 4, -2 do",
        "the index is odd, so both loops end at the same index",
    ),
    (
        "sync",
        "if true or (registered_cache[name] == nil) then registered_cache[name] = redis.call('HEXISTS', registry, 'n:' .. name) == 1 end",
        "HEXISTS is called again, with the same result",
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
    ("sync", "if KEYS[8] then", "KEYS[7] and KEYS[8] are passed together"),
    (
        "sync",
        "if has('p') then stamp = math.max(stamp, 1 + tonumber(call_or_reset('HGET', KEYS[8], 'n') or 1)) end",
        "the clock is later than either default",
    ),
    (
        "sync",
        "local readers, logged_until, is_released = tonumber(fields[8] or 0), tonumber(fields[9] or 1), false",
        "0 and 1 are both in the past",
    ),
    (
        "sync",
        "redis.call('PEXPIRE', key, string.format('%.0f', math.max(@TOMBSTONE_MS@, logged_until - now, tonumber(fields[10] or 1) - now)))",
        "0 and 1 are both in the past",
    ),
    (
        "channel_log",
        "local of, since, pending = string.match(known[1] or '~', '^(%S+) (%S+)( ?%??)$')",
        "neither text matches the pattern",
    ),
    ("heartbeat", "if true or (fields.g) then", "without a generation there is nothing to keep"),
    (
        "heartbeat",
        "local of, since, pending = string.match(fields.u or '~', '^(%S+) (%S+)( ?%??)$')",
        "neither text matches the pattern",
    ),
    ("heartbeat", "local removed = tonumber(fields.z or 1)", "0 and 1 are both long ago"),
    (
        "heartbeat",
        "local of, since = string.match(fields.u or '~', '^(%S+) (%S+) %?$')",
        "neither text matches the pattern",
    ),
    ("next_records", "elseif bytes > 1 then", "each record has more bytes"),
];
