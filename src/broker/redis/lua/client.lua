-- Maintains the record of a client with a token: where it is connected, or what its last connection has left.
--
-- KEYS  1 the registry (see fencing.lua), 2 the record
-- ARGV  1 the generation, 2 the node, 3 its link   4 the operation   5 the place of a connection: its process, a dot and a number that the
--       process uses once; with `find` empty   6 the client's socket id, as a number; with `find` and `forget` empty
--       7 with `park` and `renew`: when the place was claimed, 0 if that is not known; with `late`: how long ago it was, in ms
--       with `park`: 8 how long ago the connection was lost, in ms, 9 the session
--
-- A record is a text of words:
--   C PLACE SOCKET_ID RESTED CLAIMED BEFORE         a connection at this place; BEFORE is the record that it has replaced, if there was one
--   P PLACE SOCKET_ID RESTED CLAIMED LOST SESSION   the connection at this place was lost at LOST, in ms of this server's clock
-- RESTED is when as many takeovers of living connections are allowed again as ever, in ms: each moves it by @TAKEOVER_MS@.
-- CLAIMED is when the place was claimed, in ms. A failover may leave the record of an earlier claim than one that a node knows.
--
-- Operations and what they return after the status:
--   find    the socket id, empty for no record, and 1 if the client's living connections are taken over too often
--   claim   the letter of the record before, empty for none, R if it has another socket id; its place; for P how long ago the connection
--           was lost, in ms, and the session; when the place was claimed. Unless R, the record names the new place now
--   adopt   as claim, with any socket id in the record
--   late    as adopt, for a connection whose claim had no reply in time. If a place was claimed since then: L and that place
--   park    the place of a connection that has claimed the client since, or empty: then the session was stored, or a later one is
--   renew   as park: the record of a living connection was made again or lives longer
--   forget  nothing: the record was deleted if it is of the place
@FENCING@
if not may_write(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return {'fenced', now} end
local key, operation, place, socket_id = KEYS[2], ARGV[4], ARGV[5], ARGV[6]
local record = call_or_reset('GET', key) or ''
local RECORD = '^(%u) (%S+) (%d+) (%d+) (%d+) ?(.*)$'
local kind, known_place, known_socket_id, rested, claimed, rest = string.match(record, RECORD)
rested, claimed = tonumber(rested or 0), tonumber(claimed or 0)
local set = function(letter, of_place, of_socket_id, claimed_at, more)
  local words = {letter, of_place, of_socket_id, string.format('%.0f', rested), string.format('%.0f', claimed_at)}
  if more and more ~= '' then words[6] = more end
  redis.call('SET', key, table.concat(words, ' '), 'PX', @CLIENT_RECORD_MS@)
end
if operation == 'find' then
  local is_shared = 0
  if kind == 'C' then
    rested = math.max(rested, now) + @TAKEOVER_MS@
    if rested - now > @TAKEOVERS@ * @TAKEOVER_MS@ then
      is_shared = 1
    else
      set(kind, known_place, known_socket_id, claimed, rest)
    end
  end
  return {'ok', now, known_socket_id or '', is_shared}
end
if operation == 'claim' or operation == 'adopt' or operation == 'late' then
  local claimed_at = claimed
  if known_place == place then
    -- Its reply was lost: the same again.
    kind, known_place, known_socket_id, rested, claimed, rest = string.match(rest, RECORD)
  else
    if kind and known_socket_id ~= socket_id and operation == 'claim' then return {'ok', now, 'R', '', 0, '', 0} end
    claimed_at = math.max(now, claimed + 1)
    if operation == 'late' then
      claimed_at = now - tonumber(ARGV[7])
      if kind and claimed >= claimed_at then return {'ok', now, 'L', known_place, 0, '', 0} end
    end
    set('C', place, socket_id, claimed_at, kind == 'C' and table.concat({'C', known_place, known_socket_id, 0, 0}, ' ') or record)
  end
  if kind ~= 'P' then return {'ok', now, kind or '', known_place or '', 0, '', claimed_at} end
  local lost, session = string.match(rest, '^(%d+) (.*)$')
  return {'ok', now, kind, known_place, math.max(0, now - tonumber(lost or now)), session or '', claimed_at}
end
local own_claimed = tonumber(ARGV[7] or 0)
if kind and known_place ~= place and claimed >= own_claimed then
  return {'ok', now, operation ~= 'forget' and kind == 'C' and known_place or ''}
end
if operation == 'park' then
  set('P', place, socket_id, math.max(claimed, own_claimed), string.format('%.0f', now - tonumber(ARGV[8])) .. ' ' .. ARGV[9])
elseif operation == 'renew' then
  -- A repeated claim needs what the connection has replaced.
  set('C', place, socket_id, math.max(claimed, own_claimed), known_place == place and rest)
else
  redis.call('DEL', key)
end
return {'ok', now, ''}
