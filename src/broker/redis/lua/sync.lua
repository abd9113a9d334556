-- Sets what one node contributes to a topic, and publishes what that changes.
--
-- A topic is a channel, a user, or the connections of an app. Its hash holds
--   e         the epoch: random, made with the hash
--   v         the version: advanced by each change that is published on the pub/sub channel
--   s         the sequence of its events (see publish.lua)
--   l         the sequence of the latest event, a space, and the id of the event
--   q, b      the generation of the latest event, and the sequence from which the events of that generation count
--   t, c      the total of all nodes, and how many members there are
--   n:NODE    the contribution of NODE to the total
--   u:NODE:U  present if NODE has the user U
--   m:U       how many nodes have U, a space, and the info from the first
--   r:NODE    present if NODE has readers: connections that may resume
--   r, w      how many nodes have readers, and until when events are logged after the last one, in ms of this server's clock
--   h         until when the channel's history has events, likewise
-- All values are absolute, so that repeating a call has no effect.
--
-- KEYS  1 the registry (see fencing.lua), 2 the hash, which names the pub/sub channel as well, 3 the app's index of occupied channels, or of users,
--       4 the cached event of a cache channel, 5 the topics of the node. 6 the channel's log (see publish.lua). Where something
--       changes that webhooks report: 7 the webhook log, 8 its state
-- ARGV  1 the generation, 2 the node that writes, 3 its link   4 the deadline, in ms of this server's clock
--       5 the node whose contribution this is: the writer, or a node that is not registered any more
--       6 an epoch, in case the hash is missing   7 the node's contribution to the total, without the joins
--       8 flags: f the joins contain all users of the node, s return a snapshot, t publish totals, o publish only totals that change
--         from or to 0, i maintain the index, w log when the total changes from or to 0, m log members, n log totals, p the log is that
--         of a partition and its records are numbered (see append_records.lua), h the node has had a contribution in the hash, k other nodes have one
--         according to this node. With h or k, a missing hash was deleted; l the node has readers
--       9 the maximum number of members, 0 for no limit   10 the maximum total, 0 for no limit   11 the channel or user, which is the field of the index
--       12 the sequence that the node has received, 13 in which epoch   14 the control channel   15 the control message that reports
--         logged records, empty if that channel is in another partition   16 for how many ms events are logged after the last reader
--       17 the first sequence of the log to return, empty for none   18 the maximum number of its events
--       19 the maximum number of their bytes   20 the number of joins
--       then for each join: user, info, connections, 1 if it is new and the limit holds for it
--       then the users that left
@FENCING@
@LOG@
@CHANNEL_LOG@
if tonumber(ARGV[4]) < now then return {'late', now} end
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local registry, key, index, topics, log = KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6]
local node, flags = ARGV[5], ARGV[8]
if node ~= ARGV[2] and redis.call('HEXISTS', registry, 'n:' .. node) == 1 then return {'fenced', now} end
local has = function(flag) return string.find(flags, flag) ~= nil end
local fields = call_or_reset('HMGET', key, 'e', 'v', 's', 't', 'c', 'n:' .. node, 'r:' .. node, 'r', 'w', 'h')
local exists = fields[1]
local epoch = fields[1] or ARGV[6]
local version, sequence = tonumber(fields[2] or 0), tonumber(fields[3] or 0)
local total, count, own_total = tonumber(fields[4] or 0), tonumber(fields[5] or 0), tonumber(fields[6] or 0)
local was_total, was_count, was_version = total, count, version
-- The hash was deleted or evicted, and this node restores its contribution, as the first node or as a later one.
local was_deleted = not exists and (has('h') or has('k'))
local is_restored = was_deleted or (exists and has('h') and not fields[6] and ARGV[13] ~= '' and ARGV[13] ~= epoch)
local added, removed, accepted = {}, {}, {}

-- The caller receives what is published before the reply or, from Redis 7.2 on, after it: the reply contains it as well.
local published = {}
local publish = function(kind, text)
  version = version + 1
  local message = kind .. ' ' .. epoch .. ' ' .. version .. ' ' .. text
  redis.call('@PUBLISH@', key, message)
  if not has('s') then published[#published + 1] = message end
end
local user_entry = function(user)
  local member = redis.call('HGET', key, 'm:' .. user)
  if not member then return 0 end
  local nodes, info = string.match(member, '^(%d+) (.*)$')
  return tonumber(nodes or 0), info
end
local remove_member = function(user)
  redis.call('HDEL', key, 'm:' .. user)
  count = count - 1
  removed[#removed + 1] = user
  publish('R', user)
end
local remove_user = function(user)
  if redis.call('HDEL', key, 'u:' .. node .. ':' .. user) == 0 then return end
  local nodes, info = user_entry(user)
  if nodes > 1 then
    redis.call('HSET', key, 'm:' .. user, (nodes - 1) .. ' ' .. info)
  elseif nodes == 1 then
    remove_member(user)
  end
end

-- The log of an earlier hash has other sequences.
if not exists then redis.call('DEL', log) end
local readers, logged_until, is_released = tonumber(fields[8] or 0), tonumber(fields[9] or 0), false
local was_readers = readers
local joins = tonumber(ARGV[20])
for at = 21 + 4 * joins, #ARGV do remove_user(ARGV[at]) end
if has('f') and exists then
  -- Counts again from the contributions of registered nodes, which corrects earlier errors.
  local all, present_users, counts, registered_cache = redis.call('HGETALL', key), {}, {}, {}
  -- In a generation that is not open yet, unregistered nodes may be about to join. The topic is written again after that.
  local is_open = redis.call('HGET', registry, 'o') == '1'
  local is_registered = function(name)
    if not is_open then return true end
    if registered_cache[name] == nil then registered_cache[name] = redis.call('HEXISTS', registry, 'n:' .. name) == 1 end
    return registered_cache[name]
  end
  for at = 0, joins - 1 do present_users[ARGV[21 + 4 * at]] = true end
  total, own_total, readers = 0, 0, 0
  for at = 1, #all, 2 do
    local field = all[at]
    local kind = string.sub(field, 1, 2)
    if kind == 'n:' then
      local name = string.sub(field, 3)
      if name == node or is_registered(name) then
        local node_total = tonumber(all[at + 1]) or 0
        total = total + node_total
        if name == node then own_total = node_total end
      else
        redis.call('HDEL', key, field)
      end
    elseif kind == 'r:' then
      if string.sub(field, 3) == node or is_registered(string.sub(field, 3)) then
        readers = readers + 1
      else
        redis.call('HDEL', key, field)
        is_released = true
      end
    elseif kind == 'u:' then
      local name, user = string.match(field, '^u:([^:]+):(.*)$')
      if name and (name == node and present_users[user] or name ~= node and is_registered(name)) then
        counts[user] = (counts[user] or 0) + 1
      else
        redis.call('HDEL', key, field)
      end
    end
  end
  count = 0
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'm:' then
      local user = string.sub(all[at], 3)
      local nodes, info = string.match(all[at + 1], '^(%d+) (.*)$')
      count = count + 1
      if not counts[user] then
        remove_member(user)
      elseif tonumber(nodes) ~= counts[user] then
        redis.call('HSET', key, all[at], counts[user] .. ' ' .. (info or ''))
      end
      counts[user] = nil
    end
  end
  -- The infos of these are unknown here: their nodes write them again.
  for field = 1, #all, 2 do
    local user = string.match(all[field], '^u:[^:]+:(.*)$')
    if user and counts[user] then redis.call('HDEL', key, all[field]) end
  end
end

local contribution = tonumber(ARGV[7])
local max_members, max_total = tonumber(ARGV[9]), tonumber(ARGV[10])
local max_own_total = math.max(own_total, max_total - total + own_total)
for at = 0, joins - 1 do
  local user, info, connections = ARGV[21 + 4 * at], ARGV[22 + 4 * at], tonumber(ARGV[23 + 4 * at])
  local is_new = ARGV[24 + 4 * at] == '1'
  local is_in = true
  if user ~= '' and redis.call('HEXISTS', key, 'u:' .. node .. ':' .. user) == 0 then
    local nodes, first_info = user_entry(user)
    if nodes == 0 and is_new and max_members > 0 and count >= max_members then
      is_in = false
    else
      redis.call('HSET', key, 'u:' .. node .. ':' .. user, '', 'm:' .. user, (nodes + 1) .. ' ' .. (first_info or info))
      if nodes == 0 then
        count = count + 1
        if is_new or not is_restored then added[#added + 1] = user end
        publish('A', string.len(user) .. ' ' .. user .. info)
      end
    end
  end
  if max_total > 0 and contribution + connections > max_own_total then is_in = false end
  if is_in then contribution = contribution + connections end
  accepted[#accepted + 1] = is_in and '1' or '0'
end
total = total - own_total + contribution
if contribution > 0 then
  redis.call('HSET', key, 'n:' .. node, contribution)
else
  redis.call('HDEL', key, 'n:' .. node)
end
local is_reader = has('l') and contribution > 0
if is_reader and not fields[7] then
  redis.call('HSET', key, 'r:' .. node, 1)
  readers = readers + 1
elseif fields[7] and not is_reader then
  redis.call('HDEL', key, 'r:' .. node)
  readers, is_released = readers - 1, true
end
if readers ~= was_readers then redis.call('HSET', key, 'r', readers) end
if is_released then
  logged_until = math.max(logged_until, now + tonumber(ARGV[16]))
  redis.call('HSET', key, 'w', string.format('%.0f', logged_until))
end
local is_zero_change = (was_total == 0) ~= (total == 0)
-- Putting back what was deleted is no change.
local known_total = was_total
if is_restored then known_total = has('h') and math.max(total, 1) or total end
local is_transition = (known_total == 0) ~= (total == 0)
if was_deleted then was_total, is_zero_change = known_total, is_transition end
if total ~= was_total and (has('t') or (has('o') and is_zero_change)) then publish('T', total) end
local node_sequence = tonumber(ARGV[12])
if sequence < node_sequence and (not exists or ARGV[13] == epoch) then
  -- Redis has lost events that this node has: nodes that lack them close their subscribers' connections.
  sequence = node_sequence
  if exists or was_deleted then publish('S', string.format('%.0f', sequence)) end
elseif was_deleted then
  -- This makes the other nodes restore their contributions.
  publish('S', string.format('%.0f', sequence))
end

if total > 0 then
  redis.call('HSET', key, 'e', epoch, 'v', version, 's', sequence, 't', total, 'c', count)
  if exists and (tonumber(fields[4]) or 0) == 0 then redis.call('PERSIST', key) end
elseif exists or version > was_version then
  -- A node that was not linked meanwhile can still find out whether it has missed something.
  redis.call('HSET', key, 'e', epoch, 'v', version, 's', sequence, 't', 0, 'c', count)
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(@TOMBSTONE_MS@, logged_until - now, tonumber(fields[10] or 0) - now)))
end
if has('i') and (total ~= was_total or count ~= was_count or has('f')) then
  if total > 0 then
    call_or_reset('HSET', index, ARGV[11], total .. ' ' .. count)
  else
    call_or_reset('HDEL', index, ARGV[11])
  end
end
if contribution > 0 then
  if not fields[6] or has('f') then
    call_or_reset('SADD', topics, key)
    redis.call('PEXPIRE', topics, @TOPIC_LIST_TTL_MS@)
  end
else
  call_or_reset('SREM', topics, key)
end

local members, cached, cached_ms, last_event_id = {}, false, 0, ''
if has('s') then
  -- The id of the event that has the sequence, unless a node has reported the sequence.
  local event = redis.call('HGET', key, 'l')
  local text = string.format('%.0f', sequence) .. ' '
  if event and string.sub(event, 1, #text) == text then last_event_id = string.sub(event, #text + 1) end
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'm:' then
      members[#members + 1] = string.sub(all[at], 3)
      members[#members + 1] = string.match(all[at + 1], ' (.*)') or ''
    end
  end
  cached = redis.call('GET', KEYS[4])
  if cached then cached_ms = redis.call('PTTL', KEYS[4]) end
end
local epoch_of_log, logged = '', {}
if is_reader or ARGV[17] ~= '' then epoch_of_log = log_epoch(registry, epoch, ARGV[1]) end
if ARGV[17] ~= '' then logged = latest_events(log, ARGV[17], string.format('%.0f', sequence), ARGV[18], ARGV[19]) end
-- Last, since nothing after it can fail: a failed call is repeated.
local is_logged = false
if KEYS[7] then
  local records, subject, stamp = {}, cjson.encode(ARGV[11]), time[1] * 1000000 + time[2]
  -- The numbers of a partition ascend, even after a backward step of the clock or a failover.
  if has('p') then stamp = math.max(stamp, 1 + tonumber(call_or_reset('HGET', KEYS[8], 'n') or 0)) end
  local report = function(kind, rest)
    records[#records + 1] = string.format('%.0f', stamp) .. ' {"k":"' .. kind .. '",' .. rest .. '}'
    if has('p') then stamp = stamp + 1 end
  end
  local report_members = function(kind, users)
    for _, user in ipairs(users) do
      report(kind, '"c":' .. subject .. ',"u":' .. cjson.encode(user))
    end
  end
  local is_user = has('o')
  if has('w') and is_transition and total > 0 then
    report(is_user and 'user_online' or 'channel_occupied', (is_user and '"u":' or '"c":') .. subject)
  end
  if has('m') then
    report_members('member_removed', removed)
    report_members('member_added', added)
  end
  if has('w') and is_transition and total == 0 then
    report(is_user and 'user_offline' or 'channel_vacated', (is_user and '"u":' or '"c":') .. subject)
  end
  if has('n') and total ~= known_total then
    report('subscription_count', '"c":' .. subject .. ',"n":' .. string.format('%.0f', total))
  end
  if #records > 0 then
    is_logged = add_to_log(KEYS[7], KEYS[8], records, @LOG_BYTES@)
    if has('p') then
      redis.call('HSET', KEYS[8], 'n', string.format('%.0f', stamp - 1))
      for at = 7, 8 do redis.call('PEXPIRE', KEYS[at], @LOG_TTL_MS@) end
    end
    if is_logged and ARGV[15] ~= '' then redis.call('@PUBLISH@', ARGV[14], ARGV[15]) end
  end
end
return {
  'ok', now, epoch, version, sequence, total, count, contribution, table.concat(accepted), members, cached or '', cached_ms,
  is_logged and 1 or 0, published, last_event_id, epoch_of_log, logged,
}
