-- Counts one attempt under every key. If any of them has passed, or was first seen delay ago, all pass.
local delay, window, keep = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local marks, passes = {}, false
for i, key in ipairs(KEYS) do
  local m = read(key, now)
  if not m then
    m = {first = now, expires = now + window, passed = 0, attempts = 0}
  elseif m.first > now then
    -- Another proxy's clock is ahead. Left alone, the sender would wait until then.
    m.first, m.expires = now, now + window
  end
  m.attempts = math.min(m.attempts + 1, 4294967295)
  m.last = now
  passes = passes or m.passed ~= 0 or now - m.first >= delay
  marks[i] = m
end
local values = {}
for i, key in ipairs(KEYS) do
  if passes then pass(marks[i], now, keep) end
  values[i] = write(key, marks[i], now)
end
return values
