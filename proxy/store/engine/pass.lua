-- Marks every key as passed and renews it.
local keep = tonumber(ARGV[2])
local values = {}
for i = 1, count do
  local m = read(i) or {first = now, passed = 0, attempts = 0}
  pass(m, now, keep)
  values[i] = write(i, m)
end
return values
