// Package quarantine keeps messages that rules have kept from being delivered, until an operator releases or deletes
// them, or their time is up.
//
//	endOfData ── Keep ──► tmp/ID        the message, byte for byte          fsync
//	                      tmp/ID.json   envelope, client, facts, rule       fsync
//	                      about/ID.json ◄── rename, fsync of the folder
//	                      new/ID        ◄── rename, fsync of the folder ──► our 250
//
// tmp and new are those of a Maildir: mail programs that read one can show what is there. There is no cur: a program that
// moved messages would take them from us.
//
// # What is promised
//
// Keep returns nil only when message and side file, and both names, have been synced: the 250 that follows is ours (RFC
// 5321, 6.1), and there is no other copy. Everything else is an error, and the client hears 452. A message counts as kept
// from the moment its name is in new, which is the last step; so what a crash leaves in tmp, or in about without a message
// in new, was never promised to anybody, and is removed at the next start. What is in new and cannot be used (no side
// file, another size) is set aside in damaged and logged, never removed.
//
// What was kept is removed by [Quarantine.Delete], by [Quarantine.Release] when the backend has taken the message, and
// when its time is up, which was announced before. A quarantine that is full refuses: it does not make room by removing
// what somebody was told 250 for. Copies of what was refused (`keep: copy`) are another matter, and are only kept while
// there is plenty of room.
//
// # Release
//
// The message goes to the backend with its own envelope and in the name of its own client, as it would have without the
// rule, and with the same fields on top. Only after the backend's 250 it is removed: a crash between the two, or a backend
// that is lost after the end of the message, can deliver it twice, and never lose it. Recipients that the backend refuses
// stay; the next release is for them alone.
//
// # Concurrency
//
// One mutex guards the index, an entry for every message. Whoever writes, releases or removes a message marks its entry as
// busy, and works on its files without the lock. Files are written on the session's goroutine: nobody can give up a write
// to a file, so that a disk that does not answer holds up the sessions that need it, until their clients lose patience
// (10 minutes, RFC 5321, 4.5.3.2.6), and no others.
package quarantine
