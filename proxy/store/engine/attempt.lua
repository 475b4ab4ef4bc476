-- Counts attempts under every key but the last ones, which are only read: if one of those has passed, nothing changes. If
-- any of the others has passed, or was first seen delay ago, all of them pass.
local delay, window, keep, times = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local counted = count - tonumber(ARGV[6])
local marks, passes, unless = {}, false, false
for i = 1, count do
  marks[i] = read(i) or false
  unless = unless or i > counted and marks[i] and marks[i].passed ~= 0
end
for i = 1, unless and 0 or counted do
  local m = marks[i]
  if not m then
    m = {first = now, expires = now + window, passed = 0, attempts = 0}
  elseif m.first > now then
    -- Another proxy's clock is ahead. Left alone, the sender would wait until then.
    m.first, m.expires = now, now + window
  end
  m.attempts = math.min(m.attempts + times, 4294967295)
  m.last = now
  passes = passes or m.passed ~= 0 or now - m.first >= delay
  marks[i] = m
end
local values = {}
for i = 1, count do
  local m = marks[i]
  if unless or i > counted then
    values[i] = m and pack_mark(m) or ''
  else
    if passes then pass(m, now, keep) end
    values[i] = write(i, m)
  end
end
return values
