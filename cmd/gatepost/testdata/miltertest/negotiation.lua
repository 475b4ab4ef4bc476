-- What is agreed is what serves us of what was offered, and never more.
conn = open(6, 0x1ff, 0x1fffff)
for name, action in pairs({ADDHDRS = SMFIF_ADDHDRS, CHGHDRS = SMFIF_CHGHDRS, QUARANTINE = SMFIF_QUARANTINE,
	DELRCPT = SMFIF_DELRCPT, CHGFROM = SMFIF_CHGFROM, SETSYMLIST = SMFIF_SETSYMLIST}) do
	check(mt.test_action(conn, action), name .. " is not asked for")
end
for name, option in pairs({RCPT_REJ = SMFIP_RCPT_REJ, HDR_LEADSPC = SMFIP_HDR_LEADSPC, NR_HDR = SMFIP_NR_HDR, NR_EOH = SMFIP_NR_EOH,
	SKIP = SMFIP_SKIP, NOUNKNOWN = SMFIP_NOUNKNOWN}) do
	check(mt.test_option(conn, option), name .. " is not asked for")
end
for name, option in pairs({NR_CONN = SMFIP_NR_CONN, NR_HELO = SMFIP_NR_HELO, NR_MAIL = SMFIP_NR_MAIL, NR_RCPT = SMFIP_NR_RCPT,
	NR_DATA = SMFIP_NR_DATA, NOBODY = SMFIP_NOBODY, NOHDRS = SMFIP_NOHDRS}) do
	check(not mt.test_option(conn, option), name .. " is asked for")
end
hello(conn)
message(conn, "plain", SMFIR_CONTINUE)
check(mt.eom_check(conn, MT_HDRINSERT, "X-One"), "no field on top")
mt.disconnect(conn)

-- Version 2 knows no DATA, no options beyond 0x7f, and no blank before values.
conn = open(2, 0x3f, 0x7f)
check(not mt.test_option(conn, SMFIP_HDR_LEADSPC) and not mt.test_option(conn, SMFIP_SKIP) and not mt.test_option(conn, SMFIP_NR_HDR), "more than was offered")
check(not mt.test_action(conn, SMFIF_SETSYMLIST), "macros are asked for")
hello(conn)
message(conn, "version 2", SMFIR_CONTINUE)
check(mt.eom_check(conn, MT_HDRINSERT, "X-One", "192.0.2.77 client.test name=unknown false"), "the field on top has another value: " .. tostring(mt.getheader(conn, "X-One", 0)))
mt.disconnect(conn)

-- Who may do nothing does nothing.
conn = open(6, 0, 0)
hello(conn)
message(conn, "plain", SMFIR_CONTINUE)
check(not mt.eom_check(conn, MT_HDRINSERT) and not mt.eom_check(conn, MT_HDRADD) and not mt.eom_check(conn, MT_HDRDELETE), "the message is edited")
message(conn, "held", SMFIR_REPLYCODE)
check(not mt.eom_check(conn, MT_QUARANTINE), "it is held all the same")
mt.disconnect(conn)
