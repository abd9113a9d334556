-- Publishes events, each on the pub/sub channel of its topic, which has the name of its hash: all of them, or none if the deadline has passed
-- or the node is not allowed to write.
--
-- KEYS  1 the registry (see fencing.lua), then for each event: the topic's hash, the cached event of a cache channel, the ids
--       of its recent events
-- ARGV  1 the generation, 2 the node, 3 its link   4 the deadline, in ms of this server's clock
--       5 1 if an earlier attempt may have been carried out
--       6 for how many ms the ids are kept, to recognise a duplicate
--       then for each event: its id of 8 bytes, the envelope, and for how many ms it is
--       cached, 0 for not at all, -1 to remove the previous one as well
@FENCING@
if tonumber(ARGV[4]) < now then return {'late', now} end
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local generation = ARGV[1]
local reply = {'ok', now, time[1] * 1000000 + time[2]}
-- Everything that can fail is done before the first event is published.
local all_fields, sequences = {}, {}
local events = math.floor(#KEYS / 3)
for event = 1, events do
  local key, recent_ids, id = KEYS[3 * event - 1], KEYS[3 * event + 1], ARGV[3 * event + 4]
  local fields = call_or_reset('HMGET', key, 's', 't', 'c', 'q')
  local is_duplicate = ARGV[5] == '1' and call_or_reset('LPOS', recent_ids, id)
  all_fields[event] = fields
  if not is_duplicate then sequences[event] = 0 end
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
  end
end
for event = 1, events do
  local key, cached_key = KEYS[3 * event - 1], KEYS[3 * event]
  local envelope, retention_ms = ARGV[3 * event + 5], tonumber(ARGV[3 * event + 6])
  local fields, sequence = all_fields[event], sequences[event]
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
return reply
