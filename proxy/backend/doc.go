// Package backend is the leg towards the MTAs behind the proxy: it connects, hands over the client's address, relays
// commands and messages, keeps connections for the next client, and knows which backend is in order.
//
//	Group ── Dial ──► Conn          one session with one backend, for one client
//	  │                │
//	  ├─ server ───────┴─ link      a connection: socket, read buffer, what it has been through
//	  │    ├─ pool                  at most `connections` links, idle ones kept for the next client
//	  │    └─ state                 keywords last seen, relay check, whether it is down
//	  └─ Run ── probe               a stranger's session every few minutes: keywords, relay check
//
// # The hand-over
//
// A backend that takes the proxy for the client trusts it: Postfix (mynetworks), sendmail and Courier let the machine
// next to them relay anywhere. So the client's address is handed over before the first command, and a backend that
// does not take it is out of order; nothing ever falls back to going without.
//
// XCLIENT and EHLO are each the last of a group of commands (RFC 2920, 3.1), and Postfix since 3.9 hangs up on clients
// that do not wait for the answers. So the hand-over is lock-step. With `eager`, and a backend that pipelines, hand-over,
// EHLO and the caller's first commands leave in one segment: [Group.Dial] returns before the hand-over is answered, and
// [Conn.Reply] reports its failure. Until a message is sent nothing depends on it. A backend that does not stand it gets
// lock-step from then on, and [Group.DialNext] goes there again. For this MAIL waits for the first recipient, too: see
// [Group.Eager].
//
// EHLO carries the client's own name after a hand-over, so that the backend's Received field is true.
//
// With a message may leave what the client has sent behind it, the next transaction's MAIL and RCPT ([Parts].Next), as RFC
// 2920, 3.1 allows: that saves a client with a queue every other round trip. With `eager` DATA may go along to a backend
// without CHUNKING ([Conn.Begun]).
//
// # What a backend may do
//
// It may take one EHLO only, answer late, or count: errors, commands without a message, connections. A connection is given
// up before its count is full, so that one client never pays for another; where connections are turned away while others
// of ours are open, no more than those are used for a while, and clients wait for them or go to the next backend. Only
// whole command lines are ever in a socket, since some execute what stands before the end of the stream, and a message
// that is given up half-way ends with a reset.
//
// # Who may try again
//
// Until [Conn.SendMessage] reports that the end of the message may have left, everything may be repeated on the next
// backend ([Group.DialNext]). After that nobody knows whether the backend keeps the message, and only the client may
// send it again.
package backend
