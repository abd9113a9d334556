-- A node's sign of life, once a second; its coming, and its going.
--
-- KEYS  1 leases: nodes by when their lease ends, in ms of this server's clock
--       2 the generation: g its id, b when it was born, o 1 once it is open, l the last beat, k 1
--         once somebody has come who knows who was there before, r the run that it is for
--       3 the processes that are still to arrive in this generation
-- ARGV  1 `join`, `arrive`, `beat` or `leave`   2 the node   3 its process   4 a lease, in ms
--       5 a generation, should one be needed   6 the bus of all nodes
--       7 how long an empty Redis waits for the processes that were there, in ms
--       8 how long it waits for somebody who knows of any, in ms
--       9 1 if the node has had a lease before   10 the run of this server, empty if unknown
--       11 the state of the node: `R` if it takes connections, `D` if it drains, `B` before
--       then, with `join`, the processes that the node knows
--
-- A Redis that was started again, or took another's place, begins a new generation: it may have
-- lost data. It is open for publishing once every process that was there before has arrived, or
-- has had the time to. Who has just begun knows of nobody, which does not mean that nobody was
-- there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leases, generation, expected = KEYS[1], KEYS[2], KEYS[3]
local phase, node, process, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if phase == 'leave' then
  redis.call('ZREM', leases, node)
  return {'ok'}
end
local head = redis.call('HMGET', generation, 'g', 'b', 'o', 'l', 'r')
local id, born, is_open, last = head[1], tonumber(head[2] or now), head[3] == '1', tonumber(head[4] or now)
local run = ARGV[10]
if not id and phase ~= 'join' then return {'lapsed', '', 0, 0, now, {}, {}} end
if not id or (phase == 'join' and run ~= '' and run ~= head[5]) then
  id, born, is_open = ARGV[5], now, false
  redis.call('DEL', generation, expected)
  redis.call('HSET', generation, 'g', id, 'b', born, 'o', '0', 'r', run)
end
if phase == 'join' and not is_open then
  for at = 12, #ARGV do redis.call('SADD', expected, ARGV[at]) end
  if #ARGV >= 12 then redis.call('HSET', generation, 'k', '1') end
end
-- Nobody beat for a while: it was this server that stood still, and no lease is to suffer for it.
-- A lease that ended at 0 is beyond that: somebody cleans up after its node already.
if last + lease / 2 < now then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', now + lease)) do
    redis.call('ZADD', leases, now + lease, name)
  end
end
local ends = redis.call('ZSCORE', leases, node)
local is_first = phase == 'join' and ARGV[9] ~= '1'
if not is_first and (not ends or tonumber(ends) <= now) then
  return {'lapsed', id, is_open and 1 or 0, 0, now, {}, {}}
end
redis.call('ZADD', leases, now + lease, node)
local was_open = is_open
if phase == 'arrive' then redis.call('SREM', expected, process) end
if not is_open and phase ~= 'join' then
  local age = now - born
  local is_known = redis.call('HGET', generation, 'k') or tonumber(ARGV[8]) <= age
  if tonumber(ARGV[7]) <= age or (is_known and redis.call('SCARD', expected) == 0) then
    is_open = true
    redis.call('DEL', expected)
    redis.call('HSET', generation, 'o', '1')
  end
end
redis.call('HSET', generation, 'l', now)
redis.call('@PUBLISH@', ARGV[6], ARGV[11] .. ' ' .. node)
local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 8)
return {
  'ok', id, is_open and 1 or 0, was_open and 1 or 0, now, dead,
  redis.call('ZRANGEBYSCORE', leases, '(' .. now, '+inf'),
}
