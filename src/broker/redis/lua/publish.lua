-- Publishes events, each on the bus of its topic, which has the name of its hash: all of them, or none if the deadline has passed
-- or the node is not allowed to write.
--
-- KEYS  1 the registry (see guard.lua), then for each event: the topic's hash, the last event of a cache channel, the ids
--       of its latest events
-- ARGV  1 the generation, 2 the node, 3 its link   4 the deadline, in ms of this server's clock
--       5 1 if an earlier attempt may have been carried out
--       6 for how many ms the ids are kept, to recognise a repeated event
--       then for each event: its id of 8 bytes, the envelope, and for how many ms it is
--       cached, 0 for not at all, -1 to remove the previous one as well
@GUARD@
if tonumber(ARGV[4]) < now then return {'late', now} end
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'other', now} end
local generation = ARGV[1]
local reply = {'ok', now, time[1] * 1000000 + time[2]}
-- Everything that can fail is done before the first event is published.
local heads, sequences = {}, {}
local events = math.floor(#KEYS / 3)
for event = 1, events do
  local key, latest, id = KEYS[3 * event - 1], KEYS[3 * event + 1], ARGV[3 * event + 4]
  local head = ours('HMGET', key, 's', 't', 'c', 'q')
  local is_repeated = ARGV[5] == '1' and ours('LPOS', latest, id)
  heads[event] = head
  if not is_repeated then sequences[event] = 0 end
  if not is_repeated and head[1] then
    -- The sequence after which the events of this generation are counted (see restore.lua).
    if head[4] ~= generation then redis.call('HSET', key, 'q', generation, 'b', head[1]) end
    sequences[event] = tonumber(head[1]) + 1
    local text = string.format('%.0f', sequences[event])
    redis.call('HSET', key, 's', text, 'l', text .. ' ' .. id)
    if ours('LPUSH', latest, id) > @LATEST_MAX@ then
      redis.call('LTRIM', latest, 0, @LATEST_MAX@ / 2)
    end
    redis.call('PEXPIRE', latest, ARGV[6])
  end
end
for event = 1, events do
  local key, last = KEYS[3 * event - 1], KEYS[3 * event]
  local envelope, retention_ms = ARGV[3 * event + 5], tonumber(ARGV[3 * event + 6])
  local head, sequence = heads[event], sequences[event]
  if sequence then
    if retention_ms > 0 then
      redis.call('SET', last, envelope, 'PX', retention_ms)
    elseif retention_ms < 0 then
      redis.call('DEL', last)
    end
    redis.call('@PUBLISH@', key, 'E ' .. string.format('%.0f', sequence) .. ' ' .. envelope)
  end
  reply[#reply + 1] = tonumber(head[2] or 0)
  reply[#reply + 1] = tonumber(head[3] or 0)
  reply[#reply + 1] = sequence or tonumber(head[1] or 0)
end
return reply
