-- Returns the oldest request of a queue, after removing the one that is done and those that are too old.
--
-- KEYS  1 the registry (see fencing.lua), 2 the queue, 3 the state of the log
-- ARGV  1 the generation, 2 the node, 3 its link   4 the number of the request that is done, 0 for none
--       5 the maximum age of a request, in ms
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local queue, state = KEYS[2], KEYS[3]
local expired = 0
local head = call_or_reset('LINDEX', queue, 0)
while head do
  local id, created, events = string.match(head, '^(%d+) (%d+) (%d+) ')
  local is_done, is_old = id == ARGV[4], id and created + ARGV[5] <= now
  if id and not is_done and not is_old then break end
  redis.call('LPOP', queue)
  redis.call('HINCRBY', state, 'b:' .. queue, -(string.len(head) + @OVERHEAD@))
  redis.call('HINCRBY', state, 'e:' .. queue, 0 - (events or 0))
  if not is_done then expired = expired + (events or 0) end
  head = redis.call('LINDEX', queue, 0)
end
if not head then redis.call('HDEL', state, 'b:' .. queue, 'e:' .. queue) end
local waiting = math.max(tonumber(redis.call('HGET', state, 'e:' .. queue) or 0), 0)
return {'ok', now, expired, waiting, head or ''}
