local now = tonumber(ARGV[1])
