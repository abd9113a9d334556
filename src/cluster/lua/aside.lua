-- Returns one of the requests that are set aside, after removing the one that is done and those that are too old.
--
-- KEYS  1 the requests that are set aside, 2 the state of the log
-- ARGV  1 the number of the request that is done, 0 for none   2 the maximum age of a request, in ms
--       3 the turn: the index of the request to return, from the oldest, modulo their number
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local aside, state = KEYS[1], KEYS[2]
local forget = function(entry, events)
  redis.call('HINCRBY', state, 'b:' .. aside, -(string.len(entry) + @OVERHEAD@))
  redis.call('HINCRBY', state, 'e:' .. aside, -(events or 0))
end
local expired = 0
local oldest = redis.call('LINDEX', aside, 0)
while oldest do
  local id, created, events = string.match(oldest, '^(%d+) (%d+) (%d+) ')
  if id and created + ARGV[2] > now then break end
  redis.call('LPOP', aside)
  forget(oldest, events)
  expired = expired + (events or 0)
  oldest = redis.call('LINDEX', aside, 0)
end
if ARGV[1] ~= '0' then
  for _, entry in ipairs(redis.call('LRANGE', aside, 0, -1)) do
    local id, _, events = string.match(entry, '^(%d+) (%d+) (%d+) ')
    if id == ARGV[1] then
      redis.call('LREM', aside, 1, entry)
      forget(entry, events)
      break
    end
  end
end
local count = redis.call('LLEN', aside)
if count == 0 then
  redis.call('HDEL', state, 'b:' .. aside, 'e:' .. aside)
  return {now, expired, 0, '', 0}
end
local waiting = math.max(tonumber(redis.call('HGET', state, 'e:' .. aside) or 0), 0)
return {now, expired, waiting, redis.call('LINDEX', aside, tonumber(ARGV[3]) % count), count}
