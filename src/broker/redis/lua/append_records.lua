-- Appends records from the log of another partition to the log of an app. A record that is sent again is not appended again.
--
-- The records of a partition have ascending numbers. The state of the log holds
--   f:TAG  the number of the last record received from the partition TAG
--   l:TAG  how many records that partition had dropped for lack of room, as last reported
--
-- KEYS  1 the registry (see fencing.lua), 2 the log, 3 its state
-- ARGV  1 the generation, 2 the node, 3 its link   4 the tag of the partition   5 how many records it dropped for lack of room
--       then for each record: its number, its age in µs, and its content
-- Returns 1 if the log was empty.
@FENCING@
@LOG@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local log, state, tag, dropped = KEYS[2], KEYS[3], ARGV[4], tonumber(ARGV[5])
local last_number = tonumber(call_or_reset('HGET', state, 'f:' .. tag) or 0)
local known_dropped = tonumber(redis.call('HGET', state, 'l:' .. tag) or 0)
local now_us, records = time[1] * 1000000 + time[2], {}
for at = 6, #ARGV, 3 do
  local number = tonumber(ARGV[at])
  if number > last_number then
    last_number = number
    records[#records + 1] = string.format('%.0f ', now_us - ARGV[at + 1]) .. ARGV[at + 2]
  end
end
if dropped > known_dropped then redis.call('HINCRBY', state, 'lost', dropped - known_dropped) end
if dropped ~= known_dropped then redis.call('HSET', state, 'l:' .. tag, dropped) end
if #records == 0 then return {'ok', now, 0} end
redis.call('HSET', state, 'f:' .. tag, string.format('%.0f', last_number))
local was_empty = add_to_log(log, state, records, @LOG_BYTES@)
return {'ok', now, was_empty and 1 or 0}
