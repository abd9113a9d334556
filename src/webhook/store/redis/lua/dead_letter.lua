-- Returns one of the dead letters, after removing the one that is done and those that are too old.
--
-- KEYS  1 the registry (see fencing.lua), 2 the dead letters, 3 the state of the log
-- ARGV  1 the generation, 2 the node, 3 its link   4 the number of the request that is done, 0 for none
--       5 the maximum age of a request, in ms   6 the index of the request to return, from the oldest, modulo their number
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local dead_letters, state = KEYS[2], KEYS[3]
local forget = function(entry, events)
  redis.call('HINCRBY', state, 'b:' .. dead_letters, -(string.len(entry) + @OVERHEAD@))
  redis.call('HINCRBY', state, 'e:' .. dead_letters, 0 - (events or 0))
end
local expired = 0
local oldest = call_or_reset('LINDEX', dead_letters, 0)
while oldest do
  local id, created, events = string.match(oldest, '^(%d+) (%d+) (%d+) ')
  if id and created + ARGV[5] > now then break end
  redis.call('LPOP', dead_letters)
  forget(oldest, events)
  expired = expired + (events or 0)
  oldest = redis.call('LINDEX', dead_letters, 0)
end
if ARGV[4] ~= '0' then
  for _, entry in ipairs(redis.call('LRANGE', dead_letters, 0, -1)) do
    local id, _, events = string.match(entry, '^(%d+) (%d+) (%d+) ')
    if id == ARGV[4] then
      redis.call('LREM', dead_letters, 1, entry)
      forget(entry, events)
      break
    end
  end
end
local count = redis.call('LLEN', dead_letters)
if count == 0 then
  redis.call('HDEL', state, 'b:' .. dead_letters, 'e:' .. dead_letters)
  return {'ok', now, expired, 0, '', 0}
end
local waiting = math.max(tonumber(redis.call('HGET', state, 'e:' .. dead_letters) or 0), 0)
return {'ok', now, expired, waiting, redis.call('LINDEX', dead_letters, tonumber(ARGV[6]) % count), count}
