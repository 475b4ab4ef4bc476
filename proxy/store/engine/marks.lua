-- A mark is 28 bytes: expires, first, last, passed (Unix ms, 6 bytes each; passed 0: it has not), attempts (4 bytes). It has
-- two places: the key KEYS[2i-1], which is its own, or the field that the last ARGVs name of the hash KEYS[2i]. Where both
-- names are the same there is only the hash.
local layout, longest, sampled, grace = '<i6i6i6i6I4', 64, 3, 3600000
local count = #KEYS / 2

local function unpack_mark(value, now)
  if not value or #value ~= 28 then return nil end
  local m = {}
  m.expires, m.first, m.last, m.passed, m.attempts = struct.unpack(layout, value)
  if m.expires <= now then return nil end
  return m
end

local function pack_mark(m) return struct.pack(layout, m.expires, m.first, m.last, m.passed, m.attempts) end

local function places(i) return KEYS[2 * i - 1], KEYS[2 * i], ARGV[#ARGV - count + i] end

local function read(i)
  local own, bucket, field = places(i)
  local m = unpack_mark(redis.call('HGET', bucket, field), now)
  if m then
    m.shares = true
  elseif own ~= bucket then
    m = unpack_mark(redis.call('GET', own), now)
  end
  return m
end

-- A hash lives as long as its last mark. Before that, some of its fields are looked at with each write, as the server itself
-- looks for keys that have expired: what expired an hour ago goes. (An hour, lest a proxy whose clock is ahead removes much.)
local function trim(bucket)
  local some = redis.call('HRANDFIELD', bucket, sampled, 'WITHVALUES')
  for j = 1, #some, 2 do
    if not unpack_mark(some[j + 1], now - grace) then redis.call('HDEL', bucket, some[j]) end
  end
end

local function write(i, m)
  local own, bucket, field = places(i)
  local value, left = pack_mark(m), string.format('%d', math.max(1, m.expires - now))
  if own ~= bucket and (m.passed == 0 or #field > longest) then
    redis.call('SET', own, value, 'PX', left)
    redis.call('HDEL', bucket, field) -- a pass that has expired
    return value
  end
  -- What is at its own key may have expired, and would be back with a clock that is set back.
  if own ~= bucket and not m.shares then redis.call('DEL', own) end
  redis.call('HSET', bucket, field, value)
  if redis.call('PTTL', bucket) < tonumber(left) then redis.call('PEXPIRE', bucket, left) end
  trim(bucket)
  return value
end

local function remove(i)
  local own, bucket, field = places(i)
  redis.call('HDEL', bucket, field)
  if own ~= bucket then redis.call('DEL', own) end
end

local function pass(m, now, keep)
  if m.passed == 0 then m.passed = now end
  m.last, m.expires = now, now + keep
end
