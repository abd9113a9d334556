-- Shows the oldest request of a queue, when those are gone that are done with or too old.
--
-- KEYS  1 the queue, 2 the state of the log
-- ARGV  1 the number of the request that is done, 0 for none   2 how old a request may be, in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local queue, state = KEYS[1], KEYS[2]
local expired = 0
local head = redis.call('LINDEX', queue, 0)
while head do
  local id, created, events = string.match(head, '^(%d+) (%d+) (%d+) ')
  local is_done, is_old = id == ARGV[1], id and created + ARGV[2] <= now
  if id and not is_done and not is_old then break end
  redis.call('LPOP', queue)
  redis.call('HINCRBY', state, 'b:' .. queue, -(string.len(head) + @OVERHEAD@))
  redis.call('HINCRBY', state, 'e:' .. queue, -(events or 0))
  if not is_done then expired = expired + (events or 0) end
  head = redis.call('LINDEX', queue, 0)
end
if not head then redis.call('HDEL', state, 'b:' .. queue, 'e:' .. queue) end
local waiting = math.max(tonumber(redis.call('HGET', state, 'e:' .. queue) or 0), 0)
return {now, expired, waiting, head or ''}
