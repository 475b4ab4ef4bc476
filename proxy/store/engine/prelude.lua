-- A mark is 28 bytes: expires, first, last, passed (Unix ms, 6 bytes each; passed 0: it has not), attempts (4 bytes).
local layout = '<i6i6i6i6I4'

local function unpack_mark(value, now)
  if not value or #value ~= 28 then return nil end
  local m = {}
  m.expires, m.first, m.last, m.passed, m.attempts = struct.unpack(layout, value)
  if m.expires <= now then return nil end
  return m
end

local function read(key, now) return unpack_mark(redis.call('GET', key), now) end

local function pack_mark(m) return struct.pack(layout, m.expires, m.first, m.last, m.passed, m.attempts) end

local function write(key, m, now)
  local value = pack_mark(m)
  redis.call('SET', key, value, 'PX', string.format('%d', math.max(1, m.expires - now)))
  return value
end

local function pass(m, now, keep)
  if m.passed == 0 then m.passed = now end
  m.last, m.expires = now, now + keep
end

local now = tonumber(ARGV[1])
