-- A refusal ends what it is about, and nothing of the connection is lost by it.
conn = open(6, 0x1ff, 0x1fffff)
hello(conn)
for i = 1, 3 do
	reply(conn, mt.mailfrom(conn, "<m5@example.net>"), SMFIR_REPLYCODE)
	reply(conn, mt.mailfrom(conn, "<bob@example.net>", "SIZE=100"), SMFIR_CONTINUE)
	reply(conn, mt.rcptto(conn, "<Alice@example.org>"), SMFIR_REPLYCODE)
	reply(conn, mt.rcptto(conn, "<alice@example.org>"), SMFIR_CONTINUE)
	rest(conn, "behind a refused recipient", SMFIR_CONTINUE)
	check(mt.eom_check(conn, MT_HDRINSERT, "X-One", " 192.0.2.77 client.test name=unknown false"), "the client is forgotten: " .. tostring(mt.getheader(conn, "X-One", 0)))
	reply(conn, mt.mailfrom(conn, "<d5@example.net>"), SMFIR_CONTINUE)
	reply(conn, mt.rcptto(conn, "<alice@example.org>"), SMFIR_CONTINUE)
	reply(conn, mt.data(conn), SMFIR_REPLYCODE)
	mt.abort(conn)
end

-- At the end of the message: several lines, a percent sign, 421. Here it is enough that nothing is lost by them.
for _, subject in ipairs({"e5", "e4", "e421"}) do
	message(conn, subject, SMFIR_REPLYCODE)
	check(not mt.eom_check(conn, MT_HDRINSERT), "a refused message is edited")
end
message(conn, "void", SMFIR_DISCARD)
message(conn, "held", SMFIR_CONTINUE)
check(mt.eom_check(conn, MT_QUARANTINE, "gatepost: rule held"), "it is not held, or for another reason")
check(mt.eom_check(conn, MT_HDRINSERT, "X-One"), "what is held has no field on top")
message(conn, "plain", SMFIR_CONTINUE)
check(not mt.eom_check(conn, MT_QUARANTINE), "the next message is held too")
mt.disconnect(conn)

-- A connection that was refused stays so.
conn = open(6, 0x1ff, 0x1fffff)
reply(conn, mt.conninfo(conn, "bad.test", "198.51.100.55"), SMFIR_REPLYCODE)
reply(conn, mt.helo(conn, "client.test"), SMFIR_REPLYCODE)
reply(conn, mt.mailfrom(conn, "<bob@example.net>"), SMFIR_REPLYCODE)
mt.disconnect(conn)
conn = open(6, 0x1ff, 0x1fffff)
reply(conn, mt.conninfo(conn, "unknown", "192.0.2.77"), SMFIR_CONTINUE)
reply(conn, mt.helo(conn, "h4.test"), SMFIR_REPLYCODE)
reply(conn, mt.helo(conn, "client.test"), SMFIR_CONTINUE)
message(conn, "behind another HELO", SMFIR_CONTINUE)
mt.disconnect(conn)
