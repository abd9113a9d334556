-- Makes the globals of Redis' scripts. Receives functions of the model, and returns the one that runs a script.
local raw, locate, missing = ...
local error, type, tostring, select, xpcall = error, type, tostring, select, xpcall

-- The bridge loses the sign of a zero, which Redis does not. It returns true if there is a zero.
local texts = function(...)
  local words = {...}
  for at = 1, select('#', ...) do
    if words[at] == 0 then words[at] = 1 / words[at] < 0 and '-0' or '0' end
  end
  return raw(unpack(words, 1, select('#', ...)))
end
local pcall_redis = function(...)
  local reply = raw(...)
  if reply == true then return texts(...) end
  return reply
end
local native = pcall
local finish = function(is_done, first, ...)
  if not is_done and type(first) == 'table' and type(first.err) == 'string' then first = first.err end
  return is_done, first, ...
end
pcall = function(...) return finish(native(...)) end
local reply_of = function(kind)
  return function(...)
    local text = ...
    if select('#', ...) ~= 1 or type(text) ~= 'string' then
      return {err = 'ERR wrong number or type of arguments'}
    end
    if kind == 'ok' then return {ok = text} end
    if string.sub(text, 1, 1) == '-' then text = string.sub(text, 2) end
    if not string.find(text, ' ', 1, true) then text = 'ERR ' .. text end
    return {err = text}
  end
end
redis = {
  call = function(...)
    local reply = raw(...)
    if reply == true then reply = texts(...) end
    if type(reply) == 'table' and reply.err then error(reply, 0) end
    return reply
  end,
  pcall = pcall_redis,
  error_reply = reply_of('err'),
  status_reply = reply_of('ok'),
  replicate_commands = function() return true end,
  log = function() end,
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
}
for _, name in ipairs({
  'collectgarbage', 'dofile', 'getfenv', 'load', 'loadfile', 'module', 'newproxy', 'package', 'print', 'require', 'setfenv',
}) do
  _G[name] = nil
end
math.random = function() missing('math.random') end
math.randomseed = math.random
setmetatable(_G, {
  __index = function(_, name)
    missing(name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
  __newindex = function() error('Attempt to modify a readonly table', 2) end,
})

local handler = function(err)
  if type(err) ~= 'table' then err = {err = 'ERR ' .. tostring(err)} end
  err.line = locate()
  return err
end
return function(script) return xpcall(script, handler) end
