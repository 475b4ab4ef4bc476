// Package engine keeps the site's memory in a Redis or Valkey server, Sentinel set or Cluster (redis/rueidis).
//
// # Layout
//
// A mark is 28 bytes, in one of two places:
//
//	gp2g{1a2b}                                  a hash of passes: field n:192.0.2.0/24|alice@example.org → mark
//	gp2g{1a2b}n:192.0.2.0/24|alice@example.org  a mark that has not passed, or whose key is longer than 64 bytes
//	│ ││└ place: the hash of the key's home (see [filters.Home]), one of 16384
//	│ │└ space ("g" is greylist, "k" known, "c" client, any other is written out as ":name:")
//	│ └ version of the layout of marks; all else (limits "r", standings "l" and "L", probes "!") has version 1
//	└ store.redis.prefix
//
// A key with a time to live costs a server some 130 bytes beside its content. Passes are many, stay for weeks and change
// seldom, so they share keys: as long as a hash has 128 fields at most it is one piece of memory, and more take no more than
// a key's half. First attempts come in floods and are gone in a day: the server's TTL takes them away at the minute. (In a
// hash each of them would also tell all proxies to forget the passes beside it that they have cached.)
//
// A hash expires with its last mark. Before that, each write looks at three of its fields and removes what expired an hour
// ago, so that where marks come and go at one rate about a third more than the live ones is kept. (A TTL for each field
// needs Redis 7.4 or Valkey 9.) What has expired is never answered.
//
// Spaces that are not large have 64 places and everything in hashes: what lists them reads 64 keys in a round trip or two.
// The space "delivery" has as many hashes as a large one, by the first word of its keys (see groupedSpaces).
//
// The place is the hash tag, so that a decision about keys of one home is one script on one node of a cluster. Proxies of
// another version of the layout do not see these keys, and so cannot misread them; see [Engine.Adopt] for the one before.
//
// # Decisions
//
// Attempt, Pass, Forget, Merge and Spend are one Lua script each, and one round trip: commands of all sessions share
// pipelines. Over keys of several homes, in a cluster, the scripts run beside each other; if one finds a pass, the others
// are told in a second round.
//
// Peek is answered from memory while a pass of any of its keys is known here: from the second look on, the server tells us
// when a key that we have read changes (client-side caching). What is not a pass is always read afresh, because it is what changes by
// the hand of others. Scripts take the time from the proxy, as the embedded store does; proxies need clocks that agree
// within a second or so (NTP).
package engine
