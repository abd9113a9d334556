-- Returns the latest events of the log of a channel.
--
-- KEYS  1 the registry (see fencing.lua), 2 the channel's hash, 3 its log
-- ARGV  1 the generation, 2 the node, 3 its link   4 the maximum number of events   5 the maximum number of their bytes
-- Returns the channel's sequence, the epoch of its log, empty without a hash, and the events (see channel_log.lua).
@FENCING@
@CHANNEL_LOG@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local fields = call_or_reset('HMGET', KEYS[2], 'e', 's')
if not fields[1] then return {'ok', now, 0, '', {}} end
local sequence = fields[2] or '0'
return {
  'ok', now, tonumber(sequence), log_epoch(KEYS[1], fields[1], ARGV[1]), latest_events(KEYS[3], '-', sequence, ARGV[4], ARGV[5]),
}
