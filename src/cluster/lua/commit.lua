-- Puts what is told of some records into the queues, and takes these records off the log: both or
-- neither, and only for the node whose turn it is.
--
-- KEYS  1 who tells, 2 the log, 3 its state, 4 what is held back, then the queues
-- ARGV  1 the turn   2 for how long it lasts, in ms   3 the number of records   4 their bytes
--       5 the most bytes of a queue   6 how long a queue is kept that nobody adds to, in ms
--       7 how much of what is held back has changed
--       then for each of that: its name and what is held, nothing if nothing is
--       then for each request: the number of its queue, the number of its events, its body
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local state, held = KEYS[3], KEYS[4]
redis.call('LTRIM', KEYS[2], ARGV[3], -1)
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HINCRBY', state, 'b', -ARGV[4])
else
  redis.call('HDEL', state, 'b')
end
local at = 8
for _ = 1, ARGV[7] do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', held, ARGV[at])
  else
    redis.call('HSET', held, ARGV[at], ARGV[at + 1])
  end
  at = at + 2
end
local dropped, waiting = {}, {}
local count = function(queue)
  if redis.call('EXISTS', queue) == 0 then return 0, 0 end
  local counts = redis.call('HMGET', state, 'b:' .. queue, 'e:' .. queue)
  return math.max(tonumber(counts[1] or 0), 0), math.max(tonumber(counts[2] or 0), 0)
end
for number = 1, #KEYS - 4 do dropped[number] = 0 end
while at < #ARGV do
  local number, more, body = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  at = at + 3
  local queue, most = KEYS[4 + number], tonumber(ARGV[5])
  local bytes, events = count(queue)
  local entry = redis.call('HINCRBY', state, 'id', 1) .. ' ' .. now .. ' ' .. more .. ' ' .. body
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
    redis.call('PEXPIRE', queue, ARGV[6])
    redis.call('HSET', state, 'b:' .. queue, bytes + size, 'e:' .. queue, events + more)
  end
end
for number = 1, #KEYS - 4 do
  local _, events = count(KEYS[4 + number])
  waiting[number] = events
end
return {'ok', dropped, waiting, redis.call('LLEN', KEYS[2])}
