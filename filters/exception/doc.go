// Package exception knows what an operator has allowed or blocked for a time: a client's address or network, a sender, a
// recipient. The commands `gatepost allow` and `gatepost block` write it; rules decide what follows.
//
// The exceptions live in the store, one mark each, whose key says everything (key.go); a mark's time is the exception's.
// Observations never ask the store: they look into an index of all exceptions, which the filter makes at the first
// look-up, after each command, and every so often, because several proxies may share a store.
package exception
