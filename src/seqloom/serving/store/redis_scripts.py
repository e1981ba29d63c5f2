"""Lua scripts of the Redis store; each is atomic."""

from __future__ import annotations

from typing import Final

_EVENTS: Final = """
local prefix = ARGV[1]

-- Members are `<number>:<item>`, the number 20 characters long.
local function item_of(member) return string.sub(member, 22) end

local function is_there(key, time, item)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, time, time)) do
    if item_of(member) == item then return true end
  end
  return false
end

local function add(key, user, time, item)
  local number = redis.call('INCR', prefix .. 'seq')
  redis.call('ZADD', key, time, string.format('%020d:', number) .. item)
  redis.call('ZADD', prefix .. 'users', 0, user)
end
"""

APPEND: Final = (
    _EVENTS
    + """
-- KEYS: the receipt. ARGV: prefix, fingerprint ('' for none), reply, lifetime, then user, item, time.
local keyed = ARGV[2] ~= ''
if keyed then
  local seen = redis.call('HMGET', KEYS[1], 'fingerprint', 'reply', 'new')
  if seen[1] then return {seen[3] or (#ARGV - 4) / 3, seen[1], seen[2]} end
end
local new = 0
for i = 5, #ARGV, 3 do
  local key = prefix .. 'u:' .. ARGV[i]
  if not is_there(key, ARGV[i + 2], ARGV[i + 1]) then
    add(key, ARGV[i], ARGV[i + 2], ARGV[i + 1])
    new = new + 1
  end
end
if keyed then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'reply', ARGV[3], 'new', new)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return {new}
"""
)

IMPORT: Final = (
    _EVENTS
    + """
-- ARGV: prefix, the time that stands for an unknown one, a user, then item, time, occurrence.
local unknown, user = ARGV[2], ARGV[3]
local key = prefix .. 'u:' .. user
local erased = redis.call('HGET', prefix .. 'erasures', redis.sha1hex(user))
erased = erased and tonumber(erased)
local untimed = redis.call('ZRANGEBYSCORE', key, unknown, unknown)
local counts = nil
local function count(item)
  if not counts then
    counts = {}
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local each = item_of(member)
      counts[each] = (counts[each] or 0) + 1
    end
  end
  return counts[item] or 0
end
local new = 0
for i = 4, #ARGV, 3 do
  local item, time = ARGV[i], ARGV[i + 1]
  local wanted = not (erased and tonumber(time) <= erased)
  if wanted and time == unknown then
    wanted = count(item) <= tonumber(ARGV[i + 2])
    if wanted then counts[item] = count(item) + 1 end
  elseif wanted then
    for n, member in ipairs(untimed) do
      if item_of(member) == item then redis.call('ZREM', key, member) end
    end
    wanted = not is_there(key, time, item)
  end
  if wanted then
    add(key, user, time, item)
    new = new + 1
  end
end
return new
"""
)

ERASE: Final = """
-- ARGV: prefix, user, now.
local key = ARGV[1] .. 'u:' .. ARGV[2]
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
local until_ = ARGV[3]
if last[2] and tonumber(last[2]) > tonumber(until_) then until_ = last[2] end
redis.call('HSET', ARGV[1] .. 'erasures', redis.sha1hex(ARGV[2]), until_)
local count = redis.call('ZCARD', key)
redis.call('DEL', key)
redis.call('ZREM', ARGV[1] .. 'users', ARGV[2])
return count
"""

SET_LINEAGE: Final = """
-- KEYS: the lineage. ARGV: text, expected ('' where there is none yet).
local held = redis.call('GET', KEYS[1])
if (held or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""

ONCE_EACH: Final = """
-- To layout 2: the events of a user once each. KEYS: the user's events. ARGV: the unknown time.
local seen = {}
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #found, 2 do
  local known = found[i + 1] .. ' ' .. string.sub(found[i], 22)
  if tonumber(found[i + 1]) ~= tonumber(ARGV[1]) then
    if seen[known] then redis.call('ZREM', KEYS[1], found[i]) end
    seen[known] = true
  end
end
"""

PUT_ITEM: Final = """
local version = redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], version, ARGV[1])
redis.call('DEL', KEYS[4])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
return version
"""
