-- Maintains the index of the cached events of an app's cache channels, which are in the slots of their channels, and returns those
-- to evict: the least recently published, never the newest.
--
-- KEYS  1 the registry (see fencing.lua), 2 the channels in the order of their events, in µs
--       3 for each channel: the time of the publish, in µs of the clock of its Redis, the bytes, when it expires in ms of this server's clock, and the id
--         of the event; in the field ' ', the sum of the bytes
-- ARGV  1 the generation, 2 the node, 3 its link   4 the maximum bytes   5 how long the index is kept, in ms
--       6 the number of evicted events; for each its channel and its id
--       then for each published event: its channel, its time, its bytes, 0 if it is not kept, its lifetime in ms,
--       its id
-- Returns the sum of the bytes, 1 if another call is needed, and for each event to evict its channel and id. An event
-- stays in the index until it is reported as evicted.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local order, events = KEYS[2], KEYS[3]
local sum = tonumber(call_or_reset('HGET', events, ' ') or 0)
local read = function(channel)
  local entry = redis.call('HGET', events, channel)
  if not entry then return nil end
  local at, bytes, expires, id = string.match(entry, '^(%d+) (%d+) (%d+) (%x+)$')
  return tonumber(at or 0), tonumber(bytes or 0), tonumber(expires or 0), id or '0'
end
local remove = function(channel, bytes)
  redis.call('HDEL', events, channel)
  call_or_reset('ZREM', order, channel)
  sum = sum - bytes
end
local first_published_arg = 7 + 2 * tonumber(ARGV[6])
for at = 7, first_published_arg - 1, 2 do
  local _, bytes, _, id = read(ARGV[at])
  if bytes and id == ARGV[at + 1] then remove(ARGV[at], bytes) end
end
local now_us = time[1] * 1000000 + time[2]
for at = first_published_arg, #ARGV, 5 do
  local channel, published_us, bytes = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local known_us, known_bytes = read(channel)
  if not known_us or known_us <= published_us then
    if known_us then remove(channel, known_bytes) end
    if bytes > 0 then
      local expires = string.format('%.0f', now + tonumber(ARGV[at + 3]))
      redis.call('HSET', events, channel, ARGV[at + 1] .. ' ' .. ARGV[at + 2] .. ' ' .. expires .. ' ' .. ARGV[at + 4])
      -- The clocks of the servers of a Redis Cluster may differ.
      local score = math.max(now_us - 10000000, math.min(published_us, now_us))
      call_or_reset('ZADD', order, string.format('%.0f', score), channel)
      sum = sum + bytes
    end
  end
end
local to_evict, remaining_bytes, is_more, at = {}, sum, 1, 0
for _ = 1, 512 do
  local oldest = call_or_reset('ZRANGE', order, at, at)[1]
  if not oldest then
    if at == 0 then sum = 0 end
    is_more = 0
    break
  end
  local _, bytes, expires, id = read(oldest)
  if not bytes then
    redis.call('ZREM', order, oldest)
  elseif expires <= now then
    remove(oldest, bytes)
    remaining_bytes = remaining_bytes - bytes
  elseif remaining_bytes > tonumber(ARGV[4]) then
    remaining_bytes, at = remaining_bytes - bytes, at + 1
    to_evict[#to_evict + 1] = oldest
    to_evict[#to_evict + 1] = id
  else
    is_more = 0
    break
  end
end
if sum > 0 then
  redis.call('HSET', events, ' ', sum)
  for at = 2, 3 do
    if redis.call('PTTL', KEYS[at]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[at], ARGV[5]) end
  end
else
  redis.call('DEL', order, events)
end
return {'ok', now, string.format('%.0f', sum), is_more, to_evict}
