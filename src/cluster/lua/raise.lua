-- Has a topic count on from a sequence that a node had reached before this server lost data.
-- Whoever has not reached it learns that it lacks events.
--
-- KEYS  1 the hash (see sync.lua), which is the bus as well
-- ARGV  1 an epoch, should one be needed   2 the sequence
local key, reached = KEYS[1], tonumber(ARGV[2])
local head = redis.call('HMGET', key, 'e', 's')
if not head[1] then
  redis.call('HSET', key, 'e', ARGV[1], 'v', 0, 's', reached, 't', 0, 'c', 0)
  redis.call('PEXPIRE', key, @TOMBSTONE_MS@)
elseif tonumber(head[2] or 0) < reached then
  redis.call('HSET', key, 's', reached)
  local version = redis.call('HINCRBY', key, 'v', 1)
  redis.call('@PUBLISH@', key, 'S ' .. head[1] .. ' ' .. version .. ' ' .. string.format('%.0f', reached))
end
return 'ok'
