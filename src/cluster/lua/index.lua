-- Keeps the index of an app's channels where it lies in another slot than the channels: the later
-- news wins. Of a channel that is gone the news stays for a minute, so that late news of it is known
-- to be old.
--
-- KEYS  1 the index, 2 the channels that are gone, by when that was
-- ARGV  1 the channel, 2 its total, 3 its members, 4 when that was, in ms of its server's clock
local channel, total, at = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local since = function(text) return tonumber(string.match(text or '', '^%d+ %d+ (%d+)$') or 0) end
if since(redis.call('HGET', KEYS[1], channel)) > at then return 0 end
redis.call('HSET', KEYS[1], channel, total .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
if total == 0 then
  redis.call('ZADD', KEYS[2], at, channel)
else
  redis.call('ZREM', KEYS[2], channel)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', at - 60000, 'LIMIT', 0, 4)) do
  redis.call('HDEL', KEYS[1], gone)
  redis.call('ZREM', KEYS[2], gone)
end
return 1
