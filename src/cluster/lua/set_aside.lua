-- Moves the oldest request of a queue to the requests that are set aside, and drops the oldest of
-- those to make room. Returns the number of dropped events.
--
-- KEYS  1 the queue, 2 the state of the log, 3 the requests that are set aside
-- ARGV  1 the number of the request; no effect if another is the oldest
--       2 the maximum bytes that are set aside   3 the maximum number of requests
--       4 how long a request that is set aside is kept, in ms
local queue, state, aside = KEYS[1], KEYS[2], KEYS[3]
local head = redis.call('LINDEX', queue, 0)
if not head then return 0 end
local id, _, events = string.match(head, '^(%d+) (%d+) (%d+) ')
if id ~= ARGV[1] then return 0 end
redis.call('LPOP', queue)
local size = string.len(head) + @OVERHEAD@
redis.call('HINCRBY', state, 'b:' .. queue, -size)
redis.call('HINCRBY', state, 'e:' .. queue, -events)
local most = tonumber(ARGV[2])
if size > most then return tonumber(events) end
local dropped, bytes, waiting = 0, 0, 0
if redis.call('EXISTS', aside) == 1 then
  bytes = tonumber(redis.call('HGET', state, 'b:' .. aside) or 0)
  waiting = tonumber(redis.call('HGET', state, 'e:' .. aside) or 0)
end
while bytes + size > most or redis.call('LLEN', aside) >= tonumber(ARGV[3]) do
  local oldest = redis.call('LPOP', aside)
  if not oldest then
    bytes, waiting = 0, 0
    break
  end
  local gone = tonumber(string.match(oldest, '^%d+ %d+ (%d+) ') or 0)
  bytes, waiting, dropped = bytes - string.len(oldest) - @OVERHEAD@, waiting - gone, dropped + gone
end
redis.call('RPUSH', aside, head)
redis.call('PEXPIRE', aside, ARGV[4])
redis.call('HSET', state, 'b:' .. aside, bytes + size, 'e:' .. aside, waiting + events)
return dropped
