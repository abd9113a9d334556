-- Puts requests into the queues, and removes the records that they contain from the log: atomically,
-- and only for the node that holds the webhook lease (see poll.lua).
--
-- KEYS  1 the registry (see fencing.lua), 2 the webhook lease, 3 the log, 4 its state, 5 the delayed events, then the queues
-- ARGV  1 the generation, 2 the node, 3 its link   4 the holder of the webhook lease   5 its duration, in ms
--       6 the number of records   7 their bytes
--       8 the maximum bytes of a queue   9 how long a queue is kept after the last addition, in ms
--       10 the number of changes of delayed events
--       then for each change: its name and the new value, empty to remove it
--       then for each request: the number of its queue, the number of its events, its body
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
if call_or_reset('GET', KEYS[2]) ~= ARGV[4] then return {'ok', now, 'lost'} end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
local log, state, delayed, most = KEYS[3], KEYS[4], KEYS[5], tonumber(ARGV[8])
local queues = #KEYS - 5
call_or_reset('LTRIM', log, ARGV[6], -1)
if redis.call('EXISTS', log) == 1 then
  call_or_reset('HINCRBY', state, 'b', 0 - ARGV[7])
else
  call_or_reset('HDEL', state, 'b')
end
local at = 11
for _ = 1, ARGV[10] do
  if ARGV[at + 1] == '' then
    call_or_reset('HDEL', delayed, ARGV[at])
  else
    call_or_reset('HSET', delayed, ARGV[at], ARGV[at + 1])
  end
  at = at + 2
end
local dropped, waiting, created = {}, {}, string.format('%.0f', now)
local count = function(queue)
  if redis.call('EXISTS', queue) == 0 then return 0, 0 end
  local counts = redis.call('HMGET', state, 'b:' .. queue, 'e:' .. queue)
  return math.max(tonumber(counts[1] or 0), 0), math.max(tonumber(counts[2] or 0), 0)
end
for number = 1, queues do dropped[number] = 0 end
for at = at, #ARGV, 3 do
  local number, more, body = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  local queue = KEYS[5 + number]
  local bytes, events = count(queue)
  local entry = redis.call('HINCRBY', state, 'id', 1) .. ' ' .. created .. ' ' .. more .. ' ' .. body
  local size = string.len(entry) + @OVERHEAD@
  if size > most then
    dropped[number] = dropped[number] + more
  else
    while bytes + size > most do
      local oldest = redis.call('LPOP', queue)
      if not oldest then
        bytes, events = 0, 0
        break
      end
      local gone = tonumber(string.match(oldest, '^%d+ %d+ (%d+) ') or 0)
      bytes, events = bytes - string.len(oldest) - @OVERHEAD@, events - gone
      dropped[number] = dropped[number] + gone
    end
    redis.call('RPUSH', queue, entry)
    redis.call('PEXPIRE', queue, ARGV[9])
    redis.call('HSET', state, 'b:' .. queue, bytes + size, 'e:' .. queue, events + more)
  end
end
for number = 1, queues do
  local _, events = count(KEYS[5 + number])
  waiting[number] = events
end
return {'ok', now, 'done', dropped, waiting, redis.call('LLEN', log)}
