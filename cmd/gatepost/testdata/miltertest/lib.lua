-- What the scripts beside this one have in common: they stand in run(function() ... end)
-- below it. `socket` is where Gatepost listens.
-- miltertest says nothing of an error by itself.
function run(script)
	local ok, fault = xpcall(script, debug.traceback)
	if not ok then
		mt.echo(fault)
		error(fault)
	end
end

function check(ok, text)
	if not ok then error(text, 2) end
end

function open(version, actions, steps)
	local conn = mt.connect(socket, 40, 0.05)
	if conn == nil then error("no connection to " .. socket, 2) end
	local fault = mt.negotiate(conn, version, steps, actions) -- on the wire they stand the other way round than in its manual
	if fault ~= nil then error(fault, 2) end
	return conn
end

-- reply looks at the answer to what was just sent; fault is what miltertest itself says of it.
function reply(conn, fault, want)
	if fault ~= nil then error(fault, 2) end
	local got = mt.getreply(conn)
	if got ~= want then error(string.format("the answer is %q, not %q", string.char(got), string.char(want)), 2) end
end

function hello(conn)
	reply(conn, mt.conninfo(conn, "unknown", "192.0.2.77"), SMFIR_CONTINUE)
	reply(conn, mt.helo(conn, "client.test"), SMFIR_CONTINUE)
end

function envelope(conn)
	reply(conn, mt.mailfrom(conn, "<bob@example.net>"), SMFIR_CONTINUE)
	reply(conn, mt.rcptto(conn, "<alice@example.org>"), SMFIR_CONTINUE)
end

-- rest is the message, behind the envelope; want is the last word about it.
function rest(conn, subject, want)
	if mt.header(conn, "Subject", " " .. subject) ~= nil then error("HEADER failed", 2) end
	if mt.eoh(conn) ~= nil then error("EOH failed", 2) end
	reply(conn, mt.bodystring(conn, "One.\r\n"), SMFIR_CONTINUE)
	reply(conn, mt.bodystring(conn, "Two.\r\n"), SMFIR_CONTINUE)
	reply(conn, mt.eom(conn), want)
end

function message(conn, subject, want)
	envelope(conn)
	rest(conn, subject, want)
end
