-- Publishes events, each on the bus of its topic, which has the name of its hash: all of them or, once it is too late or this
-- server has begun again, none.
--
-- KEYS  for each event: 1 the topic's hash, 2 where a cache channel's last event lies, 3 the ids of
--       its latest events. Then the generation, unless this is a Redis Cluster, where it lies elsewhere
-- ARGV  1 until when this may be done, in ms of this server's clock
--       2 1 if an earlier attempt may have been carried out
--       3 for how many ms somebody may repeat an event   4 the generation that the node has joined
--       then for each event: its id of 8 bytes, the envelope, and for how many ms it is
--       remembered, 0 for not at all, -1 to remove the previous one as well
local time = redis.call('TIME')
if tonumber(ARGV[1]) < time[1] * 1000 + math.floor(time[2] / 1000) then return {'late'} end
if #KEYS % 3 == 1 and redis.call('HGET', KEYS[#KEYS], 'g') ~= ARGV[4] then return {'other'} end
local answer = {'ok', time[1] * 1000000 + time[2]}
for event = 1, math.floor(#KEYS / 3) do
  local key, last, latest = KEYS[3 * event - 2], KEYS[3 * event - 1], KEYS[3 * event]
  local at = 3 * event + 2
  local id, envelope, remember_ms = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local head = redis.call('HMGET', key, 's', 't', 'c')
  local is_repeated = ARGV[2] == '1' and redis.call('LPOS', latest, id)
  local sequence = tonumber(head[1] or 0)
  if not is_repeated then
    if head[1] then
      sequence = redis.call('HINCRBY', key, 's', 1)
      if redis.call('LPUSH', latest, id) > @LATEST_MAX@ then
        redis.call('LTRIM', latest, 0, @LATEST_MAX@ / 2)
      end
      redis.call('PEXPIRE', latest, ARGV[3])
    end
    if remember_ms > 0 then
      redis.call('SET', last, envelope, 'PX', remember_ms)
    elseif remember_ms < 0 then
      redis.call('DEL', last)
    end
    redis.call('@PUBLISH@', key, 'E ' .. string.format('%.0f', sequence) .. ' ' .. envelope)
  end
  answer[#answer + 1] = tonumber(head[2] or 0)
  answer[#answer + 1] = tonumber(head[3] or 0)
  answer[#answer + 1] = sequence
end
return answer
