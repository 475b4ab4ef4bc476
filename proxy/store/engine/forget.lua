-- Removes marks and counts them. What has expired goes by its TTL.
local removed = 0
for _, key in ipairs(KEYS) do
  if read(key, now) then removed = removed + redis.call('DEL', key) end
end
return removed
