-- Maintains a node's entry in the registry of a partition (see fencing.lua): it joins, syncs its topics, renews its lease and leaves.
--
-- KEYS  1 the registry
-- ARGV  1 `join`, `syncing`, `synced` once all its topics are, or `incomplete` if it has forgotten sequences, `heartbeat` or `leave`   2 the node   3 its process   4 its link number
--       5 the length of a lease, in ms; 0 outside of the lease partition   6 a generation, in case a new one begins
--       7 the control channel, empty outside of the lease partition
--       8 how long a new generation waits for progress of the expected processes, in ms
--       9 how long it waits for a node with a record of earlier processes, in ms   10 the maximum wait, in ms
--       11 the generation in which the node was registered last under this name, empty if in none
--       12 the node's state, as published on the control channel   13 the version of the key layout   14 1 if another run id of the server begins a generation
--       then, with `join`, the node's record of processes
--
-- A Redis that has restarted or failed over begins a new generation, since it may have lost data. The generation opens for
-- publishing once every expected process has synced or makes no progress. A node that has just started has no record
-- of other processes; there may nevertheless have been some.
@FENCING@
local registry, phase, node, process, link = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lease, control_channel = tonumber(ARGV[5]), ARGV[7]
-- The fields, and their names in an order.
local fields, order = {}, {}
local all = call_or_reset('HGETALL', registry)
for at = 1, #all, 2 do
  fields[all[at]] = all[at + 1]
  order[#order + 1] = all[at]
end
local set = function(field, value)
  if not fields[field] then order[#order + 1] = field end
  redis.call('HSET', registry, field, value)
  fields[field] = tostring(value)
end
local unset = function(field)
  redis.call('HDEL', registry, field)
  fields[field] = nil
end
local names_with = function(kind)
  local names = {}
  for _, field in ipairs(order) do
    if string.sub(field, 1, 2) == kind and fields[field] then names[#names + 1] = string.sub(field, 3) end
  end
  return names
end
local lease_end = function(name)
  local lease = fields['e:' .. name]
  return tonumber(lease and string.match(lease, '^(%-?%d+) ') or 0)
end
local is_known = fields['n:' .. node] ~= nil
local reply = function(status)
  return {status, fields.g or '', fields.o == '1' and 1 or 0, 0, now, {}, {}, 0}
end
if phase == 'leave' then
  if fields['n:' .. node] == link then
    set('z', now)
    unset('n:' .. node)
    unset('e:' .. node)
    if #names_with('n:') == 0 and #names_with('d:') == 0 then redis.call('PEXPIRE', registry, @TOMBSTONE_MS@) end
  end
  return reply('ok')
end
-- Data of another layout is discarded once no node is alive: the lease partition, which is called first, decides.
local has_live_node = function()
  for _, name in ipairs(names_with('n:')) do
    local ends = lease_end(name)
    if now < ends and ends <= now + 86400000 then return true end
  end
  return false
end
if phase == 'join' and fields.v and fields.v ~= ARGV[13] and not has_live_node() then
  redis.call('DEL', registry)
  fields, order = {}, {}
end
if fields.v and fields.v ~= ARGV[13] then
  local rejected = reply('layout')
  rejected[2] = fields.v
  return rejected
end
if phase ~= 'join' and (not fields.g or fields['n:' .. node] ~= link) then return reply('lease_expired') end
if phase == 'join' then
  -- A server that does not report its run id is assumed to be the same.
  local info = ARGV[14] == '1' and redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
  local is_new = not fields.g or (run ~= '' and run ~= fields.r)
  if not is_new and is_known and tonumber(fields['n:' .. node]) >= tonumber(link) then return reply('lease_expired') end
  if is_new then
    local complete_since
    if fields.g then
      local of, since, pending = string.match(fields.u or '', '^(%S+) (%S+)( ?%??)$')
      if of ~= fields.g then since, pending = fields.g, '' end
      local removed = tonumber(fields.z or 0)
      local is_recent = now < removed + @REMOVED_NODE_MS@ and removed <= now
      if pending == '' and not is_recent then complete_since = since end
    end
    if complete_since then set('u', ARGV[6] .. ' ' .. complete_since .. ' ?') else unset('u') end
    for _, expected in ipairs(names_with('x:')) do unset('x:' .. expected) end
    for _, earlier in ipairs(names_with('y:')) do unset('y:' .. earlier) end
    for _, synced in ipairs(names_with('s:')) do unset('s:' .. synced) end
    for _, name in ipairs(names_with('n:')) do set('y:' .. string.match(name, '^[^.]*'), '1') end
    unset('k')
    unset('j')
    unset('p')
    set('g', ARGV[6])
    set('b', now)
    set('o', '0')
    set('r', run)
    set('v', ARGV[13])
  end
  if fields.o ~= '1' then
    for at = 15, #ARGV do set('x:' .. ARGV[at], '1') end
    if #ARGV >= 15 then set('k', '1') end
    if ARGV[11] ~= '' then set('j', '1') end
  end
  -- Declared dead. Another generation has nothing of the node, so it may keep its name.
  if fields['d:' .. node] or (ARGV[11] == fields.g and not is_known) then return reply('lease_expired') end
  redis.call('PERSIST', registry)
  set('n:' .. node, link)
end
if lease > 0 then
  local last = tonumber(fields.l or now)
  -- Without heartbeats for half a lease, this server was paused or its clock was stepped: all leases are renewed.
  local was_paused = last + lease / 2 < now or now < last
  for _, name in ipairs(names_with('e:')) do
    local ends, length = string.match(fields['e:' .. name], '^(%-?%d+) (%d+)$')
    ends, length = tonumber(ends or 0), tonumber(length or lease)
    if was_paused or now + length < ends then set('e:' .. name, string.format('%.0f %d', now + length, length)) end
  end
  set('e:' .. node, string.format('%.0f %d', now + lease, lease))
  set('l', now)
end
local was_open = fields.o == '1'
if phase == 'synced' or phase == 'incomplete' then
  unset('x:' .. process)
  -- What a node has forgotten may be what Redis has lost.
  if phase == 'synced' then unset('y:' .. process) end
  if not was_open then set('s:' .. process, '1') end
end
if phase == 'syncing' and fields['x:' .. process] then set('p', now) end
if not was_open and phase ~= 'join' then
  -- After a backward step of the clock, the waiting time restarts.
  for _, field in ipairs({'b', 'p'}) do
    if fields[field] and now < tonumber(fields[field]) then set(field, now) end
  end
  local generation_start = tonumber(fields.b or now)
  local progress = math.max(generation_start, tonumber(fields.p or generation_start))
  local timed_out = tonumber(ARGV[8]) <= now - progress or tonumber(ARGV[10]) <= now - generation_start
  local has_record = fields.k or tonumber(ARGV[9]) <= now - generation_start
  if timed_out or (has_record and #names_with('x:') == 0) then
    local of, since = string.match(fields.u or '', '^(%S+) (%S+) %?$')
    local is_complete = (fields.k or fields.j) and #names_with('y:') == 0
    -- One that is expected since another node has joined again may have reported its sequences before.
    for _, expected in ipairs(names_with('x:')) do is_complete = is_complete and fields['s:' .. expected] end
    if of == fields.g and is_complete then set('u', of .. ' ' .. since) else unset('u') end
    for _, earlier in ipairs(names_with('y:')) do unset('y:' .. earlier) end
    for _, expected in ipairs(names_with('x:')) do unset('x:' .. expected) end
    for _, synced in ipairs(names_with('s:')) do unset('s:' .. synced) end
    set('o', '1')
  end
end
if control_channel ~= '' then redis.call('@PUBLISH@', control_channel, ARGV[12] .. ' ' .. node) end
local dead, alive = names_with('d:'), {}
for _, name in ipairs(names_with('n:')) do
  if lease == 0 or now < lease_end(name) then
    alive[#alive + 1] = name
  else
    dead[#dead + 1] = name
  end
end
return {
  'ok', fields.g, fields.o == '1' and 1 or 0, was_open and 1 or 0, now, dead, alive,
  math.min(now, tonumber(fields.b or now)),
}
