// Package proxy is the SMTP front end: it stands between the clients on port 25 and the MTA that takes the mail.
//
// # The path of a session
//
//	            listen.go: accept, limits
//	                 │
//	   from a peer under proxy_from? ── yes ─▶ proxyheader.go: whom does it speak for?
//	                 │◀──────────────────────────────┘
//	   an implicit_tls listener? ── yes ─▶ tls.go: the handshake
//	                 │◀──────────────────────────────┘
//	   greet.go: gate.Connect ─▶ pause (waits) ─▶ gate.Greet ─▶ 220, or a refusal
//	                 │
//	┌───────────────▶│ input.go: one line at a time, commands.go: a method a verb
//	│                │
//	│   EHLO ────────┤ ehlo.go: what the proxy can carry ∩ what every backend offers       gate.Helo
//	│   STARTTLS ────┤ tls.go: everything said before is forgotten, input thrown away
//	│   AUTH ────────┤ submission.go: line by line to the backend, whose session is the user's from then on    gate.Helo
//	│   XCLIENT ─────┤ xclient.go: another client; back to gate.Connect
//	│                │
//	│   MAIL ────────┤ mail.go: ours to refuse; else the backend's word                     gate.Mail
//	│   RCPT ────────┤ mail.go: rules first, then the backend, then whether its 2xx stands  gate.Rcpt, Aside, Accepted
//	│                │                            │
//	│                │     transaction.go: a session with a backend, brought to where the
//	│                │     transaction stands; replaced if it is lost, released if the client is slow
//	│                │
//	│   DATA, BDAT ──┤ data.go: 354 is ours; bytes go into a filters.Message while filters read it   gate.Data, Message
//	│                │
//	│   the end ─────┤ deliver.go: judge (gate.EndOfData); refused: our reply, the backend saw nothing;
//	│                │ kept: to quarantine (keep.go), and our reply;
//	│                │ accepted: the message to the backend, whose final reply is the client's       gate.Conclude
//	└────────────────┘
//	   no input: replies are written, and the session waits in the parker (park.go) without a goroutine
//
//	QUIT, a limit, a time-out, the client's leaving: session.end                                      gate.Close
//
// # What holds always
//
// No 250 at the end of data but the backend's, save that of a rule that says discard, that for a suppressed duplicate
// (duplicates.go), and that of a rule that says quarantine, when the message is safe there (keep.go). A message whose end
// may have reached a backend is never sent again by us. A backend that has recipients whom the client was not told 250 for is
// reset, and told the transaction anew, before it gets the message. BDAT's bytes are read off exactly, and DATA is read to
// CRLF.CRLF, whatever was wrong with them: else they would be taken for commands. A backend's session in which a user has
// signed in serves nobody else, and nothing of the exchange is logged or recorded but the user's name.
//
// # Who owns what
//
// A session belongs to the goroutine that runs it, with its gate and its backend's connection, or to the parker while it
// waits; the parker's mutex is what hands it over. Buffers are the running goroutine's. Server.mu guards what sessions
// share. Nobody but its own goroutine closes a session's connection: that makes it safe to use the descriptor's number
// for epoll, reads and writes that do not wait. Others interrupt it with a deadline.
package proxy
