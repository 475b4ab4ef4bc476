-- Removes marks and counts those that had not expired.
local removed = 0
for i = 1, count do
  if read(i) then removed = removed + 1 end
  remove(i)
end
return removed
