-- Makes what one node contributes to a topic be what the node says, and tells the others.
--
-- A topic is a channel, a user, or the connections of an app. Its hash holds
--   e         the epoch: random, made with the hash
--   v         the version: advanced by each change that is told on the bus
--   s         the sequence of its events (see publish.lua)
--   t, c      the total of all nodes, and how many members there are
--   n:NODE    what NODE has of the total
--   u:NODE:U  that the user U is there by NODE
--   m:U       by how many nodes U is there, a space, and the info of the first
-- Everything said here is absolute, so saying it twice does no harm.
--
-- KEYS  1 the hash, 2 the app's index of channels, 3 the last event of a cache channel. On a
--       Redis Cluster the index lies elsewhere, and 2 is the hash again. Where something is logged:
--       4 the log of what is to be told of the app, 5 its state
-- ARGV  1 until when this may be done, in ms of this server's clock   2 the node
--       3 an epoch, should one be needed   4 what the node has of the total, joins aside
--       5 flags: f all of the node's users are among the joins, s a snapshot is wanted,
--         t totals are told, o only those from and to none are, i the index is kept,
--         w it is logged when the total turns from and to none, m members are, n totals are
--       6 most members, 0 for no limit   7 largest total, 0 for no limit
--       8 the bus   9 the channel or user, which is the field of the index   10 the bus of all
--       nodes   11 the notice that something is logged   12 the number of joins
--       then for each join: user, info, connections, 1 if the limit holds for it
--       then the users who left
@LOG@
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(ARGV[1]) < now then return {'late'} end
local key, node, flags, bus = KEYS[1], ARGV[2], ARGV[5], ARGV[8]
local has = function(flag) return string.find(flags, flag, 1, true) ~= nil end
local head = redis.call('HMGET', key, 'e', 'v', 's', 't', 'c', 'n:' .. node)
local exists = head[1]
local epoch = head[1] or ARGV[3]
local version, sequence = tonumber(head[2] or 0), tonumber(head[3] or 0)
local total, count, mine = tonumber(head[4] or 0), tonumber(head[5] or 0), tonumber(head[6] or 0)
local was_total, was_count, was_version = total, count, version
local added, removed, accepted = {}, {}, {}

local tell = function(kind, text)
  version = version + 1
  redis.call('@PUBLISH@', bus, kind .. ' ' .. epoch .. ' ' .. version .. ' ' .. text)
end
local by_nodes = function(user)
  local member = redis.call('HGET', key, 'm:' .. user)
  if not member then return 0 end
  local space = string.find(member, ' ', 1, true)
  return tonumber(string.sub(member, 1, space - 1)), string.sub(member, space + 1)
end
local part = function(user)
  if redis.call('HDEL', key, 'u:' .. node .. ':' .. user) == 0 then return end
  local nodes, info = by_nodes(user)
  if nodes > 1 then
    redis.call('HSET', key, 'm:' .. user, (nodes - 1) .. ' ' .. info)
  elseif nodes == 1 then
    redis.call('HDEL', key, 'm:' .. user)
    count = count - 1
    removed[#removed + 1] = user
    tell('R', user)
  end
end

local joins = tonumber(ARGV[12])
for at = 13 + 4 * joins, #ARGV do part(ARGV[at]) end
if has('f') and exists then
  -- Counts afresh, so that whatever went wrong before is right now.
  local all, stays, begins = redis.call('HGETALL', key), {}, 'u:' .. node .. ':'
  for at = 0, joins - 1 do stays[ARGV[13 + 4 * at]] = true end
  total, count = 0, 0
  for at = 1, #all, 2 do
    local kind = string.sub(all[at], 1, 2)
    if kind == 'n:' then total = total + tonumber(all[at + 1]) end
    if kind == 'm:' then count = count + 1 end
  end
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, #begins) == begins then
      local user = string.sub(all[at], #begins + 1)
      if not stays[user] then part(user) end
    end
  end
end

local wanted = tonumber(ARGV[4])
local most, largest = tonumber(ARGV[6]), tonumber(ARGV[7])
local room = wanted
if largest > 0 then room = math.max(mine, largest - total + mine) end
for at = 0, joins - 1 do
  local user, info, connections = ARGV[13 + 4 * at], ARGV[14 + 4 * at], tonumber(ARGV[15 + 4 * at])
  local is_in = true
  if user ~= '' and redis.call('HEXISTS', key, 'u:' .. node .. ':' .. user) == 0 then
    local nodes, first = by_nodes(user)
    if nodes == 0 and ARGV[16 + 4 * at] == '1' and most > 0 and count >= most then
      is_in = false
    else
      redis.call('HSET', key, 'u:' .. node .. ':' .. user, '')
      redis.call('HSET', key, 'm:' .. user, (nodes + 1) .. ' ' .. (first or info))
      if nodes == 0 then
        count = count + 1
        added[#added + 1] = user
        tell('A', string.len(user) .. ' ' .. user .. info)
      end
    end
  end
  if largest > 0 and wanted + connections > room then is_in = false end
  if is_in then wanted = wanted + connections end
  accepted[#accepted + 1] = is_in and '1' or '0'
end
total = total - mine + wanted
if wanted > 0 then
  redis.call('HSET', key, 'n:' .. node, wanted)
elseif mine > 0 then
  redis.call('HDEL', key, 'n:' .. node)
end
local turned = (was_total == 0) ~= (total == 0)
if total ~= was_total and (has('t') or (has('o') and turned)) then tell('T', total) end

if total > 0 then
  redis.call('HSET', key, 'e', epoch, 'v', version, 's', sequence, 't', total, 'c', count)
  if exists and was_total == 0 then redis.call('PERSIST', key) end
elseif exists or version > was_version then
  -- Whoever was away meanwhile can still see whether it has missed something.
  redis.call('HSET', key, 'e', epoch, 'v', version, 's', sequence, 't', 0, 'c', count)
  redis.call('PEXPIRE', key, @TOMBSTONE_MS@)
end
if has('i') and (total ~= was_total or count ~= was_count or has('f')) then
  if total > 0 then
    redis.call('HSET', KEYS[2], ARGV[9], total .. ' ' .. count)
  else
    redis.call('HDEL', KEYS[2], ARGV[9])
  end
end

local members, cached, cached_ms = {}, false, 0
if has('s') then
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'm:' then
      local member = all[at + 1]
      members[#members + 1] = string.sub(all[at], 3)
      members[#members + 1] = string.sub(member, string.find(member, ' ', 1, true) + 1)
    end
  end
  cached = redis.call('GET', KEYS[3])
  if cached then cached_ms = redis.call('PTTL', KEYS[3]) end
end
-- Last, when nothing can fail any more: what fails is done again.
if KEYS[4] then
  local records, subject = {}, cjson.encode(ARGV[9])
  local log = function(kind, rest)
    records[#records + 1] = string.format('%.0f', time[1] * 1000000 + time[2]) .. ' {"k":"' .. kind .. '",' .. rest .. '}'
  end
  local log_members = function(kind, users)
    for _, user in ipairs(users) do
      log(kind, '"c":' .. subject .. ',"u":' .. cjson.encode(user))
    end
  end
  local is_user = has('o')
  if has('w') and turned and total > 0 then
    log(is_user and 'user_online' or 'channel_occupied', (is_user and '"u":' or '"c":') .. subject)
  end
  if has('m') then
    log_members('member_removed', removed)
    log_members('member_added', added)
  end
  if has('w') and turned and total == 0 then
    log(is_user and 'user_offline' or 'channel_vacated', (is_user and '"u":' or '"c":') .. subject)
  end
  if has('n') and total ~= was_total then
    log('subscription_count', '"c":' .. subject .. ',"n":' .. string.format('%.0f', total))
  end
  if #records > 0 and add_to_log(KEYS[4], KEYS[5], records, @LOG_BYTES@) then
    redis.call('@PUBLISH@', ARGV[10], ARGV[11])
  end
end
return {
  'ok', epoch, version, sequence, total, count, wanted, was_total,
  table.concat(accepted), added, removed, members, cached or '', cached_ms, now, time[2] % 1000,
}
