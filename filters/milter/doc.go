// Package milter asks milters, as an MTA does: filters of others that speak sendmail's protocol (rspamd, opendkim,
// clamav-milter).
//
// A message is played to a milter over one connection, from CONNECT to the end of the message, beginning with the
// message's first byte, so that what the milter does with the header and the body happens while they arrive:
//
//	milter.go        what becomes a fact
//	└ attempt.go     a connection: kept or new, and once more with a new one where a kept one turns out to be dead
//	  ├ pool.go      connections that are kept, and how many there may be
//	  ├ breaker.go   a milter that fails again and again is not asked for a while
//	  ├ link.go      dial, negotiate, frames, deadlines, the byte budget
//	  └ play.go      the stages in groups: commands of a group leave in one write, then their replies are read
//	    ├ macros.go  what is said beside the commands
//	    ├ verdict.go what a reply means
//	    └ edits.go   what the milter wants changed at the end
//
// Commands of a group are not held back until the one before was answered: a milter reads a stream and answers in
// order. A milter that has refused or accepted need not answer what came behind (libmilter drops it silently), so that
// such a connection is given up and not used again.
package milter
