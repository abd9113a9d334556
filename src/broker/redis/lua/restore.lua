-- Reports the highest sequence of a topic that a node has seen in an earlier generation. If Redis has lost events, the higher
-- sequence is published, and nodes whose subscribers lack events close their connections.
--
-- KEYS  1 the registry (see fencing.lua), 2 the hash (see sync.lua), which names the pub/sub channel as well, 3 the channel's log
-- ARGV  1 the generation, 2 the node, 3 its link   4 an epoch, in case the hash is missing   5 the sequence
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local key, node_sequence = KEYS[2], tonumber(ARGV[5])
local fields = call_or_reset('HMGET', key, 'e', 's', 'q', 'b')
if not fields[1] then
  redis.call('DEL', KEYS[3])
  redis.call('HSET', key, 'e', ARGV[4], 'v', 0, 's', node_sequence, 't', 0, 'c', 0)
  redis.call('PEXPIRE', key, @TOMBSTONE_MS@)
  return {'ok', now}
end
local sequence = tonumber(fields[2] or 0)
-- The sequence from which the events of this generation count.
local has_published = fields[3] == ARGV[1]
local generation_base = has_published and tonumber(fields[4] or 0) or sequence
if generation_base < node_sequence then
  -- Events published since the restart reused lost sequences: skip one, so that every node detects a gap.
  local new_sequence = has_published and math.max(sequence, node_sequence) + 1 or node_sequence
  redis.call('HSET', key, 's', new_sequence)
  if has_published then redis.call('HSET', key, 'b', new_sequence) end
  local version = redis.call('HINCRBY', key, 'v', 1)
  redis.call('@PUBLISH@', key, 'S ' .. fields[1] .. ' ' .. version .. ' ' .. string.format('%.0f', new_sequence))
end
return {'ok', now}
