-- Joins other memories of the keys, one value each, to what is here. Doing it again changes nothing.
local changed = 0
for i = 1, count do
  local theirs, ours = unpack_mark(ARGV[1 + i], now), read(i)
  if theirs and not ours then
    write(i, theirs)
    changed = changed + 1
  elseif theirs then
    local m = {
      first = math.min(ours.first, theirs.first), last = math.max(ours.last, theirs.last),
      expires = math.max(ours.expires, theirs.expires), attempts = math.max(ours.attempts, theirs.attempts),
      passed = math.max(ours.passed, theirs.passed), shares = ours.shares,
    }
    if m.first ~= ours.first or m.last ~= ours.last or m.expires ~= ours.expires or m.attempts ~= ours.attempts or m.passed ~= ours.passed then
      write(i, m)
      changed = changed + 1
    end
  end
end
return changed
