-- Joins standings, one a key from KEYS[2] on, to those that are here: ARGV[3] is "add" for what was counted anew, or
-- "max" for another memory of the same; or removes and counts them: "forget". A batch that has a number (ARGV[2], not 0) counts once: KEYS[1] is the number
-- of the last one from its writer.
local layout = '<i6I4ffff'
local seconds, faded, most = 1000, 0.05, 1000000

local function total(s) return s[1] + s[2] + s[3] + s[4] end

local function expires(s)
  if total(s) <= faded then return s.at end
  return s.at + s.half * seconds * math.log(total(s) / faded) / math.log(2)
end

local function unpack_standing(value)
  if not value or #value ~= 26 then return nil end
  local s = {}
  s.at, s.half, s[1], s[2], s[3], s[4] = struct.unpack(layout, value)
  if expires(s) <= now then return nil end
  return s
end

local function join(a, b)
  if a.at < b.at or a.at == b.at and a.half < b.half then a, b = b, a end
  local left = 1
  if a.at > b.at then left = 2 ^ (-(a.at - b.at) / seconds / b.half) end
  for i = 1, 4 do
    local n = b[i] * left
    if ARGV[3] == 'add' then n = a[i] + n else n = math.max(a[i], n) end
    a[i] = math.min(n, most)
  end
  return a
end

if ARGV[2] ~= '0' then
  if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[2]) then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', 604800000)
end
local removed = 0
for i = 2, #KEYS do
  if ARGV[3] == 'forget' and unpack_standing(redis.call('GET', KEYS[i])) then removed = removed + redis.call('DEL', KEYS[i]) end
  local more = unpack_standing(ARGV[2 + i])
  if more then
    local s = unpack_standing(redis.call('GET', KEYS[i]))
    if s then more = join(s, more) end
    local value = struct.pack(layout, more.at, more.half, more[1], more[2], more[3], more[4])
    redis.call('SET', KEYS[i], value, 'PX', string.format('%d', math.max(1, math.ceil(expires(more) - now))))
  end
end
return removed
