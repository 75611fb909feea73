"""What Redis does in one step, in Lua: a script call runs alone, and all of it or nothing is in the append-only file."""

from features.redis_wire import Script

# KEYS: the key of each record. ARGV, four a record: field, record, seconds to keep (0: as it is), most fields (0: any).
# Returns the numbers (from 0) of the records refused: the one held has a greater offset, its first eight bytes.
# An expiry is set a tenth longer than needed and renewed when less than needed is left: one write in a tenth of its length.
SAVE = Script("""
local function forget_oldest(key, most)
  local all, held = redis.call('HGETALL', key), {}
  for n = 1, #all, 2 do held[#held + 1] = {struct.unpack('>I8', all[n + 1]), all[n]} end
  table.sort(held, function(a, b) return a[1] < b[1] end)
  for n = 1, math.ceil(most / 8) do redis.call('HDEL', key, held[n][2]) end
end
local refused = {}
for n = 1, #KEYS do
  local key, field, record = KEYS[n], ARGV[4 * n - 3], ARGV[4 * n - 2]
  local keep, most = tonumber(ARGV[4 * n - 1]), tonumber(ARGV[4 * n])
  local held = redis.call('HGET', key, field)
  if held and struct.unpack('>I8', held) > struct.unpack('>I8', record) then
    refused[#refused + 1] = n - 1
  else
    redis.call('HSET', key, field, record)
    if most > 0 and not held and redis.call('HLEN', key) > most then forget_oldest(key, most) end
    if keep > 0 then
      local left, longer = redis.call('TTL', key), math.ceil(keep * 1.1)
      if left < keep or left > longer then redis.call('EXPIRE', key, longer) end
    end
  end
end
return refused
""")

# KEYS: one mark. ARGV, three a place: field, new offset, offset that must stand there ('?': any, '': none).
# Returns the fields that were left alone because something else stands there.
ADVANCE = Script("""
local moved = {}
for n = 1, #ARGV, 3 do
  local field, new, left = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local held = redis.call('HGET', KEYS[1], field) or ''
  if left == '?' or held == left or held == new then
    redis.call('HSET', KEYS[1], field, new)
  else
    moved[#moved + 1] = field
  end
end
return moved
""")

# KEYS: the stream. ARGV: entries to keep, what changed. Each entry names the one before it, so that a gap is seen.
ANNOUNCE = Script("""
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local before = last[1] and last[1][1] or '0-0'
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'before', before, 'changed', ARGV[2])
""")

# KEYS: the list. ARGV: score and member, in turns.
REPLACE = Script("""
redis.call('DEL', KEYS[1])
for n = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[n], ARGV[n + 1]) end
""")

ALL = (SAVE, ADVANCE, ANNOUNCE, REPLACE)
