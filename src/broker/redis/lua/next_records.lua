-- Removes the records that were appended to the app's log (see append_records.lua) from the log of a partition, and returns the next ones.
--
-- KEYS  1 the registry (see fencing.lua), 2 the log of the partition, 3 its state
-- ARGV  1 the generation, 2 the node, 3 its link   4 the number of the last record that was appended to it, 0 for none
--       5 the maximum number of records to return
-- Returns the clock of this server, in µs, how many records were dropped for lack of room, and records. Each begins with its number, and a space.
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local log, state, last_forwarded = KEYS[2], KEYS[3], tonumber(ARGV[4])
local bytes = 0
while true do
  local record = call_or_reset('LINDEX', log, 0)
  -- Anything that no node has written is removed.
  if not record then break end
  local digits = string.match(record, '^(%d+) ') or '0'
  if string.len(digits) <= 16 and tonumber(digits) > last_forwarded then break end
  redis.call('LPOP', log)
  bytes = bytes + string.len(record) + @OVERHEAD@
end
if redis.call('EXISTS', log) == 0 then
  call_or_reset('HDEL', state, 'b')
elseif bytes > 0 then
  call_or_reset('HINCRBY', state, 'b', -bytes)
end
local dropped = tonumber(call_or_reset('HGET', state, 'lost') or 0)
return {'ok', now, string.format('%.0f', time[1] * 1000000 + time[2]), dropped, redis.call('LRANGE', log, 0, ARGV[5] - 1)}
