-- Maintains the index of the last events of an app's cache channels, which are in the slots of their channels, and returns those
-- to evict: the least recently published, never the newest.
--
-- KEYS  1 the channels in the order of their events, in µs
--       2 for each channel: when it was published, in µs of the clock of its Redis, the bytes, when it expires in ms of this server's clock, and the id
--         of the event; under a space, the sum of the bytes
-- ARGV  1 the most bytes   2 how long the account is kept, in ms
--       3 how many events were evicted; for each its channel and its id
--       then for each event that was published: its channel, when, its bytes, 0 if it is not kept, for how many ms it
--       is, its id
-- Gives the sum of the bytes, 1 if there is more to do than one call may, and for each event to evict its channel and
-- id. It is in the account until it is said to be evicted.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local order, events = KEYS[1], KEYS[2]
local sum = tonumber(redis.call('HGET', events, ' ') or 0)
local read = function(channel)
  local entry = redis.call('HGET', events, channel)
  if not entry then return nil end
  local at, bytes, expires, id = string.match(entry, '^(%d+) (%d+) (%d+) (%x+)$')
  return tonumber(at or 0), tonumber(bytes or 0), tonumber(expires or 0), id or '0'
end
local forget = function(channel, bytes)
  redis.call('HDEL', events, channel)
  redis.call('ZREM', order, channel)
  sum = sum - bytes
end
local published = 4 + 2 * tonumber(ARGV[3])
for at = 4, published - 1, 2 do
  local _, bytes, _, id = read(ARGV[at])
  if bytes and id == ARGV[at + 1] then forget(ARGV[at], bytes) end
end
local now_us = time[1] * 1000000 + time[2]
for at = published, #ARGV, 5 do
  local channel, when, bytes = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local known_when, known_bytes = read(channel)
  if not known_when or known_when <= when then
    if known_when then forget(channel, known_bytes) end
    if bytes > 0 then
      local expires = string.format('%.0f', now + tonumber(ARGV[at + 3]))
      redis.call('HSET', events, channel, ARGV[at + 1] .. ' ' .. ARGV[at + 2] .. ' ' .. expires .. ' ' .. ARGV[at + 4])
      -- The clocks of the servers of a Redis Cluster may differ.
      local place = math.max(now_us - 10000000, math.min(when, now_us))
      redis.call('ZADD', order, string.format('%.0f', place), channel)
      sum = sum + bytes
    end
  end
end
local answer, left, to_evict = {0, 1}, sum, 0
for _ = 1, 512 do
  local oldest = redis.call('ZRANGE', order, to_evict, to_evict)[1]
  if not oldest then
    if to_evict == 0 then sum = 0 end
    answer[2] = 0
    break
  end
  local _, bytes, expires, id = read(oldest)
  if not bytes then
    redis.call('ZREM', order, oldest)
  elseif expires <= now then
    forget(oldest, bytes)
    left = left - bytes
  elseif left > tonumber(ARGV[1]) then
    left, to_evict = left - bytes, to_evict + 1
    answer[#answer + 1] = oldest
    answer[#answer + 1] = id
  else
    answer[2] = 0
    break
  end
end
if sum > 0 then
  redis.call('HSET', events, ' ', sum)
  for at = 1, 2 do
    if redis.call('PTTL', KEYS[at]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[at], ARGV[2]) end
  end
else
  redis.call('DEL', order, events)
end
answer[1] = string.format('%.0f', sum)
return answer
