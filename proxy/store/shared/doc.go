// Package shared is a site's memory in a server that its proxies share, with the embedded store as the memory of this
// proxy alone, behind [filters.Store] and [filters.Meter].
//
//	decision ──> engine (Redis, Valkey), within store.redis.timeout ──> answer ──(beside)──> embedded store
//	                │ an error, or no answer in time: an outage begins
//	                └> embedded store, until the watcher finds that the engine takes writes again
//
// While all is well, the embedded store is told what this proxy's decisions came to, so that it knows the senders that
// come here. In an outage it decides alone: no mail waits for a store. A sender that it does not know is new to it, and
// greylisted once more.
//
// # After an outage
//
// The watcher probes with a write, where the failed decision's keys live. When that succeeds, all marks of the embedded
// store that were used since the outage began are merged into the engine; then the engine decides again, and what came
// meanwhile is merged too. Merging again changes nothing, so it may break off at any point. The begin of an outage is
// itself a mark in the embedded store: a proxy that is restarted in the middle of one merges all the same.
//
// What was forgotten by command in an outage (10,000 keys at most) is forgotten in the engine, too.
//
// # Limits
//
// See [Meter]: buckets live in the engine, and each proxy may spend a small allowance before it has to ask.
package shared
