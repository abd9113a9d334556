-- Replaces the oldest request of a queue by others, which get its age.
--
-- KEYS  1 the queue, 2 the state of the log
-- ARGV  1 the number of the oldest request; no effect if another is the oldest
--       then for each request: the number of its events, its body
local queue, state = KEYS[1], KEYS[2]
local head = redis.call('LINDEX', queue, 0)
if not head then return 0 end
local id, created, events = string.match(head, '^(%d+) (%d+) (%d+) ')
if id ~= ARGV[1] then return 0 end
redis.call('LPOP', queue)
local more_bytes, more_events = -(string.len(head) + @OVERHEAD@), -events
for at = #ARGV - 1, 2, -2 do
  local number = redis.call('HINCRBY', state, 'id', 1)
  local entry = number .. ' ' .. created .. ' ' .. ARGV[at] .. ' ' .. ARGV[at + 1]
  redis.call('LPUSH', queue, entry)
  more_bytes, more_events = more_bytes + string.len(entry) + @OVERHEAD@, more_events + ARGV[at]
end
redis.call('HINCRBY', state, 'b:' .. queue, more_bytes)
redis.call('HINCRBY', state, 'e:' .. queue, more_events)
return 1
