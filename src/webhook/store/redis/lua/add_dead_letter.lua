-- Moves the oldest request of a queue to the dead letters, and drops the oldest of those to make
-- room. Returns the number of dropped events.
--
-- KEYS  1 the registry (see fencing.lua), 2 the queue, 3 the state of the log, 4 the dead letters
-- ARGV  1 the generation, 2 the node, 3 its link   4 the number of the request; no effect if another is the oldest
--       5 the maximum bytes of the dead letters   6 the maximum number of requests
--       7 how long a dead letter is kept, in ms
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local queue, state, dead_letters = KEYS[2], KEYS[3], KEYS[4]
local head = redis.call('LINDEX', queue, 0)
if not head then return {'ok', now, 0} end
local id, _, events = string.match(head, '^(%d+) (%d+) (%d+) ')
if id ~= ARGV[4] then return {'ok', now, 0} end
redis.call('LPOP', queue)
local size = string.len(head) + @OVERHEAD@
redis.call('HINCRBY', state, 'b:' .. queue, -size)
redis.call('HINCRBY', state, 'e:' .. queue, 0 - events)
local most = tonumber(ARGV[5])
if size > most then return {'ok', now, tonumber(events)} end
local dropped, bytes, waiting = 0, 0, 0
if redis.call('EXISTS', dead_letters) == 1 then
  bytes = tonumber(redis.call('HGET', state, 'b:' .. dead_letters) or 0)
  waiting = tonumber(redis.call('HGET', state, 'e:' .. dead_letters) or 0)
end
while bytes + size > most or redis.call('LLEN', dead_letters) >= tonumber(ARGV[6]) do
  local oldest = redis.call('LPOP', dead_letters)
  if not oldest then
    bytes, waiting = 0, 0
    break
  end
  local gone = tonumber(string.match(oldest, '^%d+ %d+ (%d+) ') or 0)
  bytes, waiting, dropped = bytes - string.len(oldest) - @OVERHEAD@, waiting - gone, dropped + gone
end
redis.call('RPUSH', dead_letters, head)
redis.call('PEXPIRE', dead_letters, ARGV[7])
redis.call('HSET', state, 'b:' .. dead_letters, bytes + size, 'e:' .. dead_letters, waiting + events)
return {'ok', now, dropped}
