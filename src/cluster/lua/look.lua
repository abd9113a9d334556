-- Makes one node the one that tells what happens in an app, or keeps it that, and shows it what
-- there is.
--
-- KEYS  1 who tells, 2 the log, 3 its state, 4 what is held back
-- ARGV  1 the turn of the node: its process, a dot, and something random
--       2 the process and the dot   3 for how long the turn lasts without another look, in ms
--       4 the most records to show   5 how many queues
--       then the queues
--
-- A process may end an earlier turn of its own: what that still has on its way is refused then.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder = redis.call('GET', KEYS[1])
local is_mine = holder and string.sub(holder, 1, string.len(ARGV[2])) == ARGV[2]
if holder and not is_mine then return {'held', holder, math.max(redis.call('PTTL', KEYS[1]), 0)} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
local is_new = holder ~= ARGV[1]
local lost = tonumber(redis.call('HGET', KEYS[3], 'lost') or 0)
if lost > 0 then redis.call('HDEL', KEYS[3], 'lost') end
local waiting = {}
for at = 6, 5 + tonumber(ARGV[5]) do
  local events = tonumber(redis.call('HGET', KEYS[3], 'e:' .. ARGV[at]) or 0)
  waiting[#waiting + 1] = math.max(events, 0)
end
return {
  'ours', is_new and 1 or 0, now, lost, redis.call('LLEN', KEYS[2]), waiting,
  redis.call('LRANGE', KEYS[2], 0, ARGV[4] - 1), is_new and redis.call('HGETALL', KEYS[4]) or {},
}
