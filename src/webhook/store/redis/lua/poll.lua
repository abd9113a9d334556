-- Takes or renews the webhook lease of an app's webhooks, and returns the first records of the log.
--
-- KEYS  1 the registry (see fencing.lua), 2 the webhook lease, 3 the log, 4 its state, 5 the delayed events
-- ARGV  1 the generation, 2 the node, 3 its link
--       4 the holder: the node's process, a dot, and a random part
--       5 the process and the dot   6 the duration of the lease, in ms
--       7 the maximum number of records   8 the number of queues
--       then the queues
--
-- A process may replace an earlier lease of its own; writes in flight under that one are rejected then.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local holder_key, log, state, lease = KEYS[2], KEYS[3], KEYS[4], ARGV[4]
local holder = call_or_reset('GET', holder_key)
local is_mine = holder and string.sub(holder, 1, string.len(ARGV[5])) == ARGV[5]
if holder and not is_mine then return {'ok', now, 'held', holder, math.max(redis.call('PTTL', holder_key), 0)} end
redis.call('SET', holder_key, lease, 'PX', ARGV[6])
local is_new = holder ~= lease
local lost = tonumber(call_or_reset('HGET', state, 'lost') or 0)
if lost > 0 then redis.call('HDEL', state, 'lost') end
local waiting = {}
for at = 9, 8 + tonumber(ARGV[8]) do
  local events = tonumber(redis.call('HGET', state, 'e:' .. ARGV[at]) or 0)
  waiting[#waiting + 1] = math.max(events, 0)
end
return {
  'ok', now, 'ours', is_new and 1 or 0, lost, call_or_reset('LLEN', log), waiting,
  redis.call('LRANGE', log, 0, ARGV[7] - 1), is_new and call_or_reset('HGETALL', KEYS[5]) or {},
}
