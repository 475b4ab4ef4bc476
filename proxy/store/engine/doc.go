// Package engine keeps the site's memory in a Redis or Valkey server, Sentinel set or Cluster (redis/rueidis).
//
// # Layout
//
// A mark is a string under a key of its own, and expires by the server's TTL:
//
//	gp1g{example.org}n:192.0.2.0/24|alice@    →  28 bytes
//	││││└ home       └ the rest of the key
//	│││└ space ("g" is greylist, any other is written out as ":name:"; "r": buckets of rate limits)
//	││└ version of the layout
//	└┴ store.redis.prefix
//
// The home of a key (see [filters.Home]) is its hash tag, so that a decision about keys of one home is one script on one
// node of a cluster. Proxies of another version of the layout do not see these keys, and so cannot misread them.
//
// # Decisions
//
// Attempt, Pass, Forget, Merge and Spend are one Lua script each, and one round trip: commands of all sessions share
// pipelines. Over keys of several homes, in a cluster, the scripts run beside each other; if one finds a pass, the others
// are told in a second round.
//
// Peek is answered from memory while a pass of any of its keys is known here: the server tells us when a key that we
// have read changes (client-side caching). What is not a pass is always read afresh, because it is what changes by
// the hand of others. Scripts take the time from the proxy, as the embedded store does; proxies need clocks that agree
// within a second or so (NTP).
package engine
