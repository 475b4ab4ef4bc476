-- Marks every key as passed and renews it.
local keep = tonumber(ARGV[2])
local values = {}
for i, key in ipairs(KEYS) do
  local m = read(key, now) or {first = now, passed = 0, attempts = 0}
  pass(m, now, keep)
  values[i] = write(key, m, now)
end
return values
