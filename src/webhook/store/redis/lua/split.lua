-- Replaces the oldest request of a queue by others, which get its age.
--
-- KEYS  1 the registry (see fencing.lua), 2 the queue, 3 the state of the log
-- ARGV  1 the generation, 2 the node, 3 its link   4 the number of the oldest request; no effect if another is the oldest
--       then for each request: the number of its events, its body
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local queue, state = KEYS[2], KEYS[3]
local head = redis.call('LINDEX', queue, 0)
if not head then return {'ok', now, 0} end
local id, created, events = string.match(head, '^(%d+) (%d+) (%d+) ')
if id ~= ARGV[4] then return {'ok', now, 0} end
redis.call('LPOP', queue)
local more_bytes, more_events = -(string.len(head) + @OVERHEAD@), -events
for at = #ARGV - 1, 5, -2 do
  local number = redis.call('HINCRBY', state, 'id', 1)
  local entry = number .. ' ' .. created .. ' ' .. ARGV[at] .. ' ' .. ARGV[at + 1]
  redis.call('LPUSH', queue, entry)
  more_bytes, more_events = more_bytes + string.len(entry) + @OVERHEAD@, more_events + ARGV[at]
end
redis.call('HINCRBY', state, 'b:' .. queue, more_bytes)
redis.call('HINCRBY', state, 'e:' .. queue, more_events)
return {'ok', now, 1}
