-- Part of other scripts: adds records to the webhook log of an app.
--
-- The log is a list. A record begins with its time, in µs since 1970, and a space. Its state, a hash, holds
--   b        the bytes of the log
--   lost     how many records were dropped for lack of room
--   n        in a partition from which records are forwarded, the number of the last one (see append_records.lua)
--   id       the last number assigned to a request
--   b:Q, e:Q the bytes and the events of the queue Q
--
-- Returns whether the log was empty, and how many records were dropped.
local add_to_log = function(log, state, records, max_bytes)
  local bytes, appended = tonumber(call_or_reset('HGET', state, 'b') or 0), {}
  for _, record in ipairs(records) do
    local size = string.len(record) + @OVERHEAD@
    if bytes + size <= max_bytes then
      bytes = bytes + size
      appended[#appended + 1] = record
    end
  end
  local dropped = #records - #appended
  if dropped > 0 then redis.call('HINCRBY', state, 'lost', dropped) end
  if #appended == 0 then return false, dropped end
  redis.call('HSET', state, 'b', bytes)
  local length
  for _, record in ipairs(appended) do length = call_or_reset('RPUSH', log, record) end
  return length == #appended, dropped
end
