-- Takes tokens from buckets (GCRA): a bucket is the moment, in µs, at which it will be full again. Now is in µs here.
local moments = {}
for i, key in ipairs(KEYS) do
  local cost = tonumber(ARGV[1 + i])
  local full = math.max(tonumber(redis.call('GET', key) or 0), now) + cost
  if cost > 0 then
    redis.call('SET', key, string.format('%d', full), 'PX', string.format('%d', math.max(1, math.ceil((full - now) / 1000))))
  end
  moments[i] = string.format('%d', full)
end
return moments
