-- Reports the sequence of a topic that a node has reached in an earlier generation. If Redis has lost events, the raised
-- sequence is published, and nodes whose subscribers lack events close them.
--
-- KEYS  1 the registry (see guard.lua), 2 the hash (see sync.lua), which is the bus as well
-- ARGV  1 the generation, 2 the node, 3 its link   4 an epoch, in case the hash is missing   5 the sequence
@GUARD@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'other', now} end
local key, reached = KEYS[2], tonumber(ARGV[5])
local head = ours('HMGET', key, 'e', 's', 'q', 'b')
if not head[1] then
  redis.call('HSET', key, 'e', ARGV[4], 'v', 0, 's', reached, 't', 0, 'c', 0)
  redis.call('PEXPIRE', key, @TOMBSTONE_MS@)
  return {'ok', now}
end
local sequence = tonumber(head[2] or 0)
-- The sequence from which the events of this generation count.
local has_published = head[3] == ARGV[1]
local base = has_published and tonumber(head[4] or 0) or sequence
if base < reached then
  -- Two events have the same sequence if others were published meanwhile: every subscriber lacks some.
  local raised = has_published and math.max(sequence, reached) + 1 or reached
  redis.call('HSET', key, 's', raised)
  if has_published then redis.call('HSET', key, 'b', raised) end
  local version = redis.call('HINCRBY', key, 'v', 1)
  redis.call('@PUBLISH@', key, 'S ' .. head[1] .. ' ' .. version .. ' ' .. string.format('%.0f', raised))
end
return {'ok', now}
