package redis

import (
	goredis "github.com/redis/go-redis/v9"
)

// The scripts below run in the server, each at once. All of a sink's own begin with
// the fence: what another run has claimed, this one does not touch any more. KEYS[1]
// is the sink's hash, of which the fields are
//
//	run                            who may write
//	last_run, last_checkpoint      what was committed last; "" and 0 where a user has
//	                               had it forgotten
//	piece:RUN:SUBTASK:NUMBER       how many of a piece's chunks are carried out, or done
//	rejected:RUN:SUBTASK           that there is a list of rejected commands

const fence = `
local owner = redis.call('HGET', KEYS[1], 'run')
if not owner then
	return redis.error_reply('NOSINK')
end
if owner ~= ARGV[1] then
	return redis.error_reply('FENCED')
end
`

// claim makes a run the one that may write, if nothing has changed since the program
// looked. ARGV: the run, and what the fields were; empty for none.
var claim = goredis.NewScript(`
local is = redis.call('HMGET', KEYS[1], 'run', 'last_run', 'last_checkpoint')
for i = 1, 3 do
	if (is[i] or '') ~= ARGV[i + 1] then
		return 0
	end
end
redis.call('HSET', KEYS[1], 'run', ARGV[1])
return 1
`)

// stage adds a chunk to the list of a piece, unless the answer to an earlier attempt
// was lost, or keys hold what its commands don't fit to: it returns their numbers. A
// list without the chunks before it is one that the server has lost.
// KEYS: the sink's hash, the list, keys to look at. ARGV: the run, the piece's field,
// the chunk's number, the chunk, and what each key is to hold.
var stage = goredis.NewScript(fence + `
local wrong = {}
for i = 3, #KEYS do
	local is, want = redis.call('TYPE', KEYS[i]), ARGV[i + 2]
	if type(is) == 'table' then
		is = is.ok
	end
	if is == 'string' and want == 'hll' then
		local count = redis.pcall('PFCOUNT', KEYS[i])
		if type(count) == 'number' then
			is = 'hll'
		end
	end
	if is ~= 'none' and is ~= want then
		wrong[#wrong + 1] = i - 2
	end
end
if #wrong > 0 then
	return wrong
end
local length = redis.call('LLEN', KEYS[2])
if length < tonumber(ARGV[3]) - 1 then
	return redis.error_reply('NOSINK')
end
redis.call('HSETNX', KEYS[1], ARGV[2], 0)
if length < tonumber(ARGV[3]) then
	redis.call('RPUSH', KEYS[2], ARGV[4])
end
return wrong
`)

// apply carries out a chunk, unless it has been. A command that fails does not keep the
// others from it; it is put into a list. KEYS: the sink's hash, the list of rejected
// commands, the key of each command. ARGV: the run, the piece's field, the chunk's
// number, the field of the list, and for each command its record's time, its name, the
// number of its arguments, and those.
var apply = goredis.NewScript(fence + `
local done = redis.call('HGET', KEYS[1], ARGV[2])
if not done then
	return redis.error_reply('GONE')
end
if done == 'done' or tonumber(done) >= tonumber(ARGV[3]) then
	return 0
end
local at, rejected = 5, 0
for i = 3, #KEYS do
	local time, name, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
	local args = {}
	for j = 1, n do
		args[j] = ARGV[at + 2 + j]
	end
	at = at + 3 + n
	local said = redis.pcall(name, KEYS[i], unpack(args))
	local err = type(said) == 'table' and said.err
	if err and string.find(err, 'OOM command not allowed', 1, true) then
		-- The server looks at its memory before a script's first write and not after.
		return redis.error_reply('OOM command not allowed: the server has no memory left')
	end
	if err and not (name == 'XADD' and string.find(err, 'equal or smaller', 1, true)) then
		rejected = rejected + 1
		redis.call('RPUSH', KEYS[2], cjson.encode({time, err, name, KEYS[i], unpack(args)}))
		redis.call('HSET', KEYS[1], ARGV[4], KEYS[2])
	end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return rejected
`)

// finish notes that all of a piece was carried out, and takes rejected commands off
// their lists that became dead letters with it. KEYS: the sink's hash, the piece's
// list, lists of rejected commands. ARGV: the run, the piece's field, its run and
// checkpoint, empty when they are not to be noted, and for each list how many to take
// off and its field.
var finish = goredis.NewScript(fence + `
local done = redis.call('HGET', KEYS[1], ARGV[2])
if done == 'done' then
	return 0
end
for i = 3, #KEYS do
	local at = 5 + 2 * (i - 3)
	redis.call('LTRIM', KEYS[i], ARGV[at], -1)
	if redis.call('EXISTS', KEYS[i]) == 0 then
		redis.call('HDEL', KEYS[1], ARGV[at + 1])
	end
end
if ARGV[4] ~= '' then
	local run, last = redis.call('HGET', KEYS[1], 'last_run'), redis.call('HGET', KEYS[1], 'last_checkpoint')
	if run ~= ARGV[3] or not last or tonumber(last) < tonumber(ARGV[4]) then
		redis.call('HSET', KEYS[1], 'last_run', ARGV[3], 'last_checkpoint', ARGV[4])
	end
end
redis.call('HSET', KEYS[1], ARGV[2], 'done')
redis.call('DEL', KEYS[2])
return 1
`)

// guard carries out a command unless a later version is there, for AtLeastOnce. KEYS:
// the key, and the hash of versions. ARGV: the version, the command's name, and its
// arguments.
var guard = goredis.NewScript(`
local version, name = ARGV[1], ARGV[2]
local function older(member)
	local have = redis.call('HGET', KEYS[2], member)
	if have and have > version then
		return false
	end
	return true
end
if name == 'HSET' then
	for i = 3, #ARGV, 2 do
		if older(ARGV[i]) then
			redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
			redis.call('HSET', KEYS[2], ARGV[i], version)
		end
	end
	return 0
end
local member = ''
if name == 'ZADD' then
	member = ARGV[4]
end
if older(member) then
	local args = {}
	for i = 3, #ARGV do
		args[#args + 1] = ARGV[i]
	end
	redis.call(name, KEYS[1], unpack(args))
	redis.call('HSET', KEYS[2], member, version)
end
return 0
`)
