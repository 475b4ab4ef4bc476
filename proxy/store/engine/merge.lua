-- Joins other memories of the keys, one value each, to what is here. Doing it again changes nothing.
local changed = 0
for i, key in ipairs(KEYS) do
  local theirs, ours = unpack_mark(ARGV[1 + i], now), read(key, now)
  if theirs and not ours then
    write(key, theirs, now)
    changed = changed + 1
  elseif theirs then
    local m = {
      first = math.min(ours.first, theirs.first), last = math.max(ours.last, theirs.last),
      expires = math.max(ours.expires, theirs.expires), attempts = math.max(ours.attempts, theirs.attempts),
      passed = math.max(ours.passed, theirs.passed),
    }
    if m.first ~= ours.first or m.last ~= ours.last or m.expires ~= ours.expires or m.attempts ~= ours.attempts or m.passed ~= ours.passed then
      write(key, m, now)
      changed = changed + 1
    end
  end
end
return changed
