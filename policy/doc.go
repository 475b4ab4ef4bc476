// Package policy brings filters and rules together.
//
// An [Engine] is what a configuration compiles to: filters, the schema of their facts, rules. It is immutable; a reload
// makes a new one. A [Gate] follows one connection through it:
//
//	front end            Gate                                      filters, rules
//	─────────            ────                                      ──────────────
//	accept        ──►    Connect    client facts known        ──►  observations at connect start
//	greeting      ──►    Greet      evaluate rules at connect
//	EHLO          ──►    Helo       helo facts known, again after STARTTLS
//	MAIL          ──►    Mail       a transaction begins
//	RCPT          ──►    Rcpt       rules before the backend is asked
//	  more RCPT   ──►    Aside      the answer comes when others were asked for
//	  backend 2xx ──►    Accepted   greylisting, classes of recipients
//	  backend 4xx ──►    Refused
//	DATA, BDAT    ──►    Data
//	first byte    ──►    Message
//	  more of it  ──►    Growing    observations read while the message grows
//	last byte     ──►    EndOfData  join, evaluate, edits to the header
//	reply sent    ──►    Conclude   the transaction's record
//	close         ──►    Close      every goroutine has ended; the session's record
//
// An observation starts as soon as its input is known and only if a rule reads its facts (or they belong into
// Authentication-Results). It is waited for only when a rule that can still decide needs it: rules are evaluated in
// order in three-valued logic, and only a rule that is neither true nor false with what is known waits.
//
// Facts live in three layers: those of the connection, of the transaction, of the recipient. A layer starts as a copy
// of the one below, and what becomes known late is written to all layers above its own. After the last recipient, the
// facts of the first accepted one stand for all: recipients of one transaction are of one class (recipients.go).
//
// Most of what observations ask for is in a cache. So they are attempted on the session's own goroutine first, without
// waiting, and run beside it only if something was not at hand (attempt.go).
//
// A gate belongs to its session's goroutine. Filter goroutines share nothing with it but their own run, handed back
// under the gate's mutex; they read copies of the facts.
package policy
