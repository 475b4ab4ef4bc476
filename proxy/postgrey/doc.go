// Package postgrey reads what postgrey has learned.
//
// Its databases are Berkeley DB B-trees in a transactional environment. They are read from a dump in the text format of
// db_dump, made with the environment (-h): pages that postgrey has not written out yet are in the environment's cache and
// log, and a reader of the file alone would miss what was learned last. In the databases are:
//
//	postgrey.db           client/sender/recipient   first,last     a triplet: the first and the latest attempt, Unix time
//	postgrey_clients.db   client                    count,last     how often a client has passed (auto-whitelist-clients)
//
// client is an address, or with --lookup-by-subnet, the default, that of the /24 or /64. With --privacy keys are hashed,
// and nothing can be learned from them.
package postgrey
