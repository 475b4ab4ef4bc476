// Package milter is the front end for an MTA that calls Gatepost as a milter: Postfix (smtpd_milters and
// non_smtpd_milters) and sendmail (INPUT_MAIL_FILTER). It drives the same gate as the SMTP proxy.
//
// # The path of a session
//
//	           package called: accept, limits
//	                │
//	OPTNEG ─────────┤ negotiate.go: what the MTA offers ∩ what serves us; the macros that we want
//	MACRO ──────────┤ macros.go: what belongs to which command, kept until a later transaction
//	                │
//	CONNECT ────────┤ client.go: the client that the MTA serves                              gate.Connect, Greet
//	HELO ───────────┤ client.go: its greeting, and TLS                                       gate.Helo
//	                │
//	MAIL ───────────┤ envelope.go: who has signed in, if that is new; a transaction          gate.Helo, gate.Mail
//	RCPT ───────────┤ envelope.go: the MTA has taken the recipient before it asks            gate.Rcpt, Accepted
//	                │
//	DATA ───────────┤ message.go: and with MTAs that do not tell of it, the first field      gate.Data, Message
//	HEADER, EOH ────┤ message.go: fields become bytes again
//	BODY ───────────┤ message.go: from the socket into a filters.Message; skipped if nobody reads it
//	                │
//	BODYEOB ────────┤ end.go: judge, then our fields on top and forged ones away             gate.EndOfData, Conclude
//	ABORT ──────────┤ the transaction has ended without a message                            gate.Conclude
//	                │
//	QUIT_NC ────────┤ the client has left; the connection serves another one                 gate.Close
//	QUIT ───────────┘
//
// # What holds always
//
// No refusal takes a recipient or a message away that the client was told 250 for: it is a REPLYCODE. DELRCPT is said only
// where one of our own milters wants a recipient gone and may (readdress.go). A command is answered by CONTINUE, REPLYCODE,
// DISCARD or SKIP, and by TEMPFAIL where it makes no sense; never by ACCEPT or REJECT. So what is known of a connection
// outlives a refused recipient and every message. The MTA's final reply is not known to a milter: an accepted message's
// record says so.
//
// # Who owns what
//
// Each connection of an MTA has a goroutine, which owns its session, gate and message. called.Server has what they share.
// Shutdown interrupts reads by a deadline; nobody but its goroutine closes a connection.
package milter
