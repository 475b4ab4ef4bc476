// Package journal keeps what was decided and why, on disk: a record of every session and every transaction, to be read
// while the proxy runs and long after.
//
//	sessions                       memory                          disk
//	────────                       ──────                          ────
//	Record, Confirmed  ──pack──►   a block: entries, and tables    the writer compresses a block,
//	(session's goroutine)          of texts, shapes, rules  ────►  writes it with one write, syncs
//
// A block is written when it is full and at the latest half a second after its first entry, so that the end of the
// process, however sudden, costs less than a second. What waits for the disk is bounded (journal.queue): beyond that
// entries are dropped and counted. Mail never waits.
//
// # Files
//
// A segment is a file of at most 64 MiB and a day: a head with the format's version and a dictionary for zstd, then
// blocks, each framed with lengths and checksums (frame.go). Whole segments are removed when they are too old or there
// is no room. Each start begins a new segment, so that nothing is ever appended behind an end that a crash has torn.
//
// A block can be read without any other. Its head says which times it spans and has a Bloom filter of ids, mail
// addresses and client addresses: a search unpacks the few blocks that are worth it.
//
// # Reading
//
// [Reader.Each] yields entries. An [Entry] is a policy.Record whose facts and rules are names and values, for those of
// the reader may be others than those of the writer: a year lies between them, or a new rule file is tried. [Binder] puts
// recorded facts before rules of the reader; what was not recorded is absent. [Where] searches with an expression of the
// rule language.
//
// # Versions
//
// Everything is built so that it can grow (block.go, encode.go): parts and fields have numbers and lengths, and a reader
// passes over those that it does not know; values are added at the end of a field, and are zero where an older release did
// not write them. So a newer release reads older files for good, and an older one reads what it knows of newer ones. A
// change that breaks this raises the version at the head of the file, and an older release says so.
package journal
