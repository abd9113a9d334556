-- Publishes events, each on the pub/sub channel of its topic, which has the name of its hash: all of them, or none if the deadline has passed
-- or the node is not allowed to write.
--
-- KEYS  1 the registry (see fencing.lua), 2 the logs of the partition in the order of their oldest events, in ms, 3 the same in the order of the times
--       after which these are too old, 4 the bytes of each log, its fixed ones included, and in the field ' ' their sum; then for each event: the topic's hash, the
--       cached event of a cache channel, the ids of its recent events, its log; with keys also the record of its idempotency key, or the
--       topic's hash again if it has none
-- ARGV  1 the generation, 2 the node, 3 its link   4 the deadline, in ms of this server's clock
--       5 flags, the sum of 1 if an earlier attempt may have been carried out, 2 if some event has an idempotency key, and 4 if some channel
--         has a history
--       6 for how many ms the ids are kept, to recognise a duplicate
--       7 the maximum events of a log   8 for how many ms events are logged
--       then for each event: its id of 8 bytes, the envelope, and for how many ms it is
--       cached, 0 for not at all, -1 to remove the previous one as well; with histories also for how many ms the channel's history has it,
--       0 for none, the maximum events of the history, and an epoch in case the hash is missing
--
-- The record of an idempotency key is the id of the event that was published with it, and the counts in the reply to it. An event
-- whose key has a record is not published, and has these counts. With keys, the reply has a number for each
-- event: 1 if it was not published because another event had its key before. It ends with the numbers of logged events that were dropped because the
-- log of their channel was full, and because all logs of the partition were, and 1 if some event was logged.
--
-- The log of a channel, a stream, has the events by their sequences, each with its time in ms, and its envelope except for client events. It is
-- written while the channel has readers, and for a while after that (see sync.lua), and always if the channel has a history.
@FENCING@
if tonumber(ARGV[4]) < now then return {'late', now} end
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local generation = ARGV[1]
local reply = {'ok', now, time[1] * 1000000 + time[2]}
local is_retry, is_keyed, has_history = ARGV[5] % 2 == 1, ARGV[5] % 4 >= 2, ARGV[5] / 4 >= 1
local keys_of_event, args_of_event = is_keyed and 5 or 4, has_history and 6 or 3
local order, ends, sizes = KEYS[2], KEYS[3], KEYS[4]
local has_logged, dropped_full, dropped_all = false, 0, 0
local size_of = function(envelope) return string.len(envelope or '') + @OVERHEAD@ end
-- Drops the oldest events of a log, at most 64, while `is_over` holds, which is called with the time of the oldest event, how many were dropped,
-- and the bytes that are left. The log has its events for `log_ms`.
local drop_oldest = function(log, log_ms, is_over)
  local bytes, dropped, freed, first = tonumber(redis.call('HGET', sizes, log) or 0), 0, 0, nil
  for _, entry in ipairs(call_or_reset('XRANGE', log, '-', '+', 'COUNT', 65)) do
    if dropped == 64 or not is_over(tonumber(entry[2][2]), dropped, bytes - freed) then
      first = entry
      break
    end
    dropped, freed = dropped + 1, freed + size_of(entry[2][4])
  end
  -- Not `-freed`: of 0, Redis gets '-0', which it rejects.
  if first then
    redis.call('XTRIM', log, 'MINID', first[1])
    redis.call('HINCRBY', sizes, log, 0 - freed)
    call_or_reset('ZADD', order, first[2][2], log)
    redis.call('ZADD', ends, first[2][2] + log_ms, log)
  else
    -- It has no events, or is gone.
    freed = bytes
    redis.call('DEL', log)
    redis.call('HDEL', sizes, log)
    call_or_reset('ZREM', order, log)
    redis.call('ZREM', ends, log)
  end
  redis.call('HINCRBY', sizes, ' ', 0 - freed)
  return dropped
end
-- Adds an event to a log that has `max_events` for `log_ms`.
local add_to_log = function(log, sequence, envelope, max_events, log_ms)
  local is_client_event = string.byte(envelope, 2) == 2 or string.byte(envelope, 2) == 3
  local add = function(call)
    if is_client_event then return call('XADD', log, sequence .. '-0', 't', now) end
    return call('XADD', log, sequence .. '-0', 't', now, 'e', envelope)
  end
  local reply = add(redis.pcall)
  if type(reply) == 'table' then
    -- An error: it is the log of an earlier hash of the channel, with higher sequences.
    redis.call('DEL', log)
    add(redis.call)
  end
  local size = size_of(not is_client_event and envelope)
  local bytes, length = call_or_reset('HINCRBY', sizes, log, size), redis.call('XLEN', log)
  if bytes == size then
    -- The log is new, or the index was deleted and it begins anew.
    redis.call('XTRIM', log, 'MINID', sequence .. '-0')
    length = 1
  end
  if length == 1 then
    -- What the index has of an earlier log is gone.
    redis.call('HINCRBY', sizes, ' ', 2 * size - bytes + @CHANNEL_LOG_OVERHEAD@)
    redis.call('HSET', sizes, log, size + @CHANNEL_LOG_OVERHEAD@)
    call_or_reset('ZADD', order, now, log)
    call_or_reset('ZADD', ends, now + log_ms, log)
  else
    redis.call('HINCRBY', sizes, ' ', size)
    -- The history may be another than that of the events before, and an earlier revision has set no end.
    -- From here on, `ends` has the right type.
    local is_open_ended = not call_or_reset('ZSCORE', ends, log)
    local oldest = (has_history or is_open_ended) and call_or_reset('ZSCORE', order, log)
    if oldest then redis.call('ZADD', ends, oldest + log_ms, log) end
  end
  if length > max_events + 63 then
    dropped_full = dropped_full + drop_oldest(log, log_ms, function() return true end)
  elseif bytes > @CHANNEL_LOG_BYTES@ then
    dropped_full = dropped_full + drop_oldest(log, log_ms, function(_, _, left) return left > @CHANNEL_LOG_BYTES@ * 7 / 8 end)
  end
  redis.call('PEXPIRE', log, log_ms)
  has_logged = true
end
-- Everything that can fail is done before the first event is published.
local all_fields, sequences, records, accepted, repeated = {}, {}, {}, {}, {}
for first = 5, #KEYS, keys_of_event do
  local event = #all_fields + 1
  local at = args_of_event * #all_fields + 9
  local key, recent_ids, id, history_ms = KEYS[first], KEYS[first + 2], ARGV[at], has_history and tonumber(ARGV[at + 3]) or 0
  local fields = call_or_reset('HMGET', key, 's', 't', 'c', 'q', 'r', 'w')
  local record, earlier = is_keyed and KEYS[first + 4] ~= key and KEYS[first + 4]
  if record then
    earlier = accepted[record] or call_or_reset('GET', record)
    if earlier then
      fields[2], fields[3] = string.match(string.sub(earlier, #id + 1), '^(%d+) (%d+)$')
      if string.sub(earlier, 1, #id) ~= id then repeated[event] = 1 end
    else
      accepted[record] = id .. (fields[2] or 0) .. ' ' .. (fields[3] or 0)
      records[event] = record
    end
  end
  local is_duplicate = earlier or is_retry and call_or_reset('LPOS', recent_ids, id)
  all_fields[event] = fields
  if not is_duplicate then sequences[event] = 0 end
  if not is_duplicate and not fields[1] and history_ms > 0 then
    -- Events of a history have sequences without subscribers as well.
    redis.call('HSET', key, 'e', ARGV[at + 5], 'v', 0, 't', 0, 'c', 0)
    fields[1] = '0'
  end
  if not is_duplicate and fields[1] then
    -- The sequence after which the events of this generation are counted (see restore.lua).
    if fields[4] ~= generation then redis.call('HSET', key, 'q', generation, 'b', fields[1]) end
    sequences[event] = tonumber(fields[1]) + 1
    local text = string.format('%.0f', sequences[event])
    redis.call('HSET', key, 's', text, 'l', text .. ' ' .. id)
    if call_or_reset('LPUSH', recent_ids, id) > @RECENT_IDS_MAX@ then
      redis.call('LTRIM', recent_ids, 0, @RECENT_IDS_MAX@ / 2)
    end
    redis.call('PEXPIRE', recent_ids, ARGV[6])
    local has_readers = tonumber(fields[5] or 0) > 0 or now < tonumber(fields[6] or 0)
    if history_ms > 0 then
      redis.call('HSET', key, 'h', now + history_ms)
      if tonumber(fields[2] or 0) == 0 then
        redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), history_ms, @TOMBSTONE_MS@))
      end
      local events, log_ms = tonumber(ARGV[at + 4]), history_ms
      if has_readers then events, log_ms = math.max(events, ARGV[7]), math.max(log_ms, ARGV[8]) end
      add_to_log(KEYS[first + 3], text, ARGV[at + 1], events, log_ms)
    elseif has_readers then
      add_to_log(KEYS[first + 3], text, ARGV[at + 1], tonumber(ARGV[7]), tonumber(ARGV[8]))
    end
  end
end
if has_logged then
  -- For how long a log has its events; one of the two may have been deleted.
  local kept_for = function(ends_ms, oldest_ms) return ends_ms and oldest_ms and ends_ms - oldest_ms or tonumber(ARGV[8]) end
  -- At most as many logs as there are events can be new: more are looked at, so that they do not become more and more.
  local looked_at = 16 + #all_fields
  -- Events that are too old, and logs that are gone.
  for _ = 1, looked_at do
    local log, ends_ms = unpack(redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES'))
    if not log then redis.call('DEL', sizes) break end
    if tonumber(ends_ms) >= now then break end
    local log_ms = kept_for(ends_ms, call_or_reset('ZSCORE', order, log))
    drop_oldest(log, log_ms, function(time) return time + log_ms < now end)
  end
  for _ = 1, looked_at do
    if tonumber(redis.call('HGET', sizes, ' ') or 0) <= @CHANNEL_LOGS_BYTES@ then break end
    local log, oldest_ms = unpack(call_or_reset('ZRANGE', order, 0, 0, 'WITHSCORES'))
    if not log then redis.call('DEL', sizes) break end
    local log_ms = kept_for(redis.call('ZSCORE', ends, log), oldest_ms)
    dropped_all = dropped_all + drop_oldest(log, log_ms, function(_, dropped) return dropped < 16 end)
  end
  for at = 2, 4 do redis.call('PEXPIRE', KEYS[at], @LOGS_INDEX_MS@) end
end
for event, fields in ipairs(all_fields) do
  local first, at = keys_of_event * (event - 1) + 5, args_of_event * (event - 1) + 9
  local key, cached_key = KEYS[first], KEYS[first + 1]
  local envelope, retention_ms = ARGV[at + 1], tonumber(ARGV[at + 2])
  local sequence = sequences[event]
  if records[event] then
    redis.call('SET', records[event], accepted[records[event]], 'PX', @PUBLISH_RECORD_MS@)
  end
  if sequence then
    if retention_ms > 0 then
      redis.call('SET', cached_key, envelope, 'PX', retention_ms)
    elseif retention_ms < 0 then
      redis.call('DEL', cached_key)
    end
    redis.call('@PUBLISH@', key, 'E ' .. string.format('%.0f', sequence) .. ' ' .. envelope)
  end
  reply[#reply + 1] = tonumber(fields[2] or 0)
  reply[#reply + 1] = tonumber(fields[3] or 0)
  reply[#reply + 1] = sequence or tonumber(fields[1] or 0)
end
if is_keyed then
  for event = 1, #all_fields do reply[#reply + 1] = repeated[event] or 0 end
end
reply[#reply + 1] = dropped_full
reply[#reply + 1] = dropped_all
reply[#reply + 1] = has_logged and 1 or 0
return reply
