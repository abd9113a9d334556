-- Part of other scripts: reads the log of a channel (see publish.lua).

-- The epoch of the log, which ends when events may have been lost unnoticed. Sequences are those of the hash with this epoch, and of the
-- generations in which it can't have lost any.
local log_epoch = function(registry, epoch, generation)
  local known = redis.call('HMGET', registry, 'u', 'o')
  local of, since, pending = string.match(known[1] or '', '^(%S+) (%S+)( ?%??)$')
  if of ~= generation or (pending ~= '' and known[2] == '1') then since = generation end
  return epoch .. '.' .. since
end
-- The events with the sequences from `first` to `last` from the latest one, within the limits: of each its sequence, its time and its envelope.
local latest_events = function(log, first, last, max_events, max_bytes)
  local events, bytes = {}, 0
  for _, entry in ipairs(call_or_reset('XREVRANGE', log, last, first, 'COUNT', max_events)) do
    local envelope = entry[2][4] or ''
    bytes = bytes + string.len(envelope) + @OVERHEAD@
    if bytes > tonumber(max_bytes) then break end
    events[#events + 1] = string.match(entry[1], '^%d+')
    events[#events + 1] = entry[2][2]
    events[#events + 1] = envelope
  end
  return events
end
