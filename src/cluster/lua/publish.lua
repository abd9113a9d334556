-- Publishes events, each on the bus of its topic: all of them or, once it is too late, none.
--
-- KEYS  for each event: 1 the topic's hash, 2 where a cache channel's last event lies
-- ARGV  1 until when this may be done, in ms of this server's clock
--       2 1 if an earlier attempt may have been carried out
--       then for each event: its bus, its id of 8 bytes, the envelope, and for how many ms it is
--       remembered, 0 for not at all
local time = redis.call('TIME')
if tonumber(ARGV[1]) < time[1] * 1000 + math.floor(time[2] / 1000) then return {'late'} end
local known = function(ids, id)
  for at = 1, #ids, 8 do
    if string.sub(ids, at, at + 7) == id then return true end
  end
  return false
end
local answer = {'ok'}
for event = 1, #KEYS / 2 do
  local key, last = KEYS[2 * event - 1], KEYS[2 * event]
  local at = 4 * event - 1
  local bus, id, envelope, remember_ms = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local head = redis.call('HMGET', key, 's', 'r', 't', 'c')
  local is_repeated = ARGV[2] == '1' and head[2] and known(head[2], id)
  if not is_repeated then
    local sequence = 0
    if head[1] then
      sequence = head[1] + 1
      redis.call('HSET', key, 's', sequence, 'r', string.sub(id .. (head[2] or ''), 1, 64))
    end
    if remember_ms > 0 then redis.call('SET', last, envelope, 'PX', remember_ms) end
    redis.call('@PUBLISH@', bus, 'E ' .. string.format('%.0f', sequence) .. ' ' .. envelope)
  end
  answer[#answer + 1] = tonumber(head[3] or 0)
  answer[#answer + 1] = tonumber(head[4] or 0)
end
return answer
