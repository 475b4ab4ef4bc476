-- ABORT in the middle of a message, twice, and behind the end: the next message is as good as the first.
conn = open(6, 0x1ff, 0x1fffff)
hello(conn)
for i = 1, 2 do
	envelope(conn)
	mt.header(conn, "Authentication-Results", " mx.example.org; spf=pass (stale)")
	mt.eoh(conn)
	reply(conn, mt.bodystring(conn, "half a mess"), SMFIR_CONTINUE)
	mt.abort(conn)
	mt.abort(conn)
	message(conn, "behind ABORT", SMFIR_CONTINUE)
	check(not mt.eom_check(conn, MT_HDRDELETE), "a field of the aborted message is deleted")
	mt.abort(conn)
end

-- Fields are edited by their place: the forged ones go, the others stay.
envelope(conn)
mt.header(conn, "Authentication-Results", " other.example; spf=pass")
mt.header(conn, "Authentication-Results", " mx.example.org; spf=pass")
mt.eoh(conn)
reply(conn, mt.eom(conn), SMFIR_CONTINUE)
check(mt.eom_check(conn, MT_HDRDELETE, "Authentication-Results"), "forged results stay")
check(mt.eom_check(conn, MT_HDRINSERT, "Authentication-Results"), "no results of ours")

-- Neither header nor body; then a body without a header.
envelope(conn)
mt.eoh(conn)
reply(conn, mt.eom(conn), SMFIR_CONTINUE)
envelope(conn)
mt.eoh(conn)
reply(conn, mt.bodystring(conn, "\r\n"), SMFIR_CONTINUE)
reply(conn, mt.eom(conn), SMFIR_CONTINUE)
mt.disconnect(conn)

-- SKIP: nobody wants the rest of what is too large, and the next message is whole again.
conn = open(6, 0x1ff, 0x1fffff)
hello(conn)
envelope(conn)
mt.header(conn, "Subject", " large")
mt.eoh(conn)
local line, sent = string.rep("x", 76) .. "\r\n", 0
repeat
	check(mt.bodystring(conn, string.rep(line, 800)) == nil, "BODY failed")
	sent = sent + 800 * string.len(line)
	check(sent < 12 * 1024 * 1024, "no end of a message of more than 10 MiB")
until mt.getreply(conn) == SMFIR_SKIP
check(sent > 10 * 1024 * 1024, "SKIP behind " .. sent .. " bytes")
reply(conn, mt.eom(conn), SMFIR_REPLYCODE)
message(conn, "behind SKIP", SMFIR_CONTINUE)
mt.disconnect(conn)

-- An MTA that cannot decline UNKNOWN tells of it, and goes on.
conn = open(6, 0x1ff, 0x1ffeff)
check(not mt.test_option(conn, SMFIP_NOUNKNOWN), "more than was offered")
hello(conn)
reply(conn, mt.unknown(conn, "XFOO bar"), SMFIR_CONTINUE)
message(conn, "behind UNKNOWN", SMFIR_CONTINUE)
mt.disconnect(conn)

-- Macros: who has signed in, by what TLS. They are the session's, and not the next one's.
for _, user in ipairs({"joe", "", "sue"}) do
	conn = open(6, 0x1ff, 0x1fffff)
	reply(conn, mt.conninfo(conn, "unknown", "192.0.2.77"), SMFIR_CONTINUE)
	reply(conn, mt.helo(conn, "client.test"), SMFIR_CONTINUE)
	mt.macro(conn, SMFIC_MAIL, "{auth_authen}", user, "{tls_version}", "TLSv1.3", "i", "4XQID")
	message(conn, "signed in", SMFIR_CONTINUE)
	local want = " TLSv1.3 " .. user .. " " .. tostring(user ~= "") .. " "
	local got = tostring(mt.getheader(conn, "X-Two", 0))
	check(string.sub(got, 1, string.len(want)) == want, "got " .. got .. ", want " .. want)
	mt.disconnect(conn)
end

-- A client that is gone without a word, in the middle of it all.
conn = open(6, 0x1ff, 0x1fffff)
hello(conn)
envelope(conn)
mt.header(conn, "Subject", " torn")
mt.disconnect(conn, false)
conn = open(6, 0x1ff, 0x1fffff)
hello(conn)
message(conn, "the next one", SMFIR_CONTINUE)
mt.disconnect(conn)
