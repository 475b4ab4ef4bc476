// Package resolver asks the DNS on behalf of the filters. It is a stub: the configured servers recurse.
//
// A look-up goes this way: the cache answers (cache.go); else it joins the flight that asks the same thing already, or
// starts one (flight.go); a flight asks the servers in order of health, each time with a new id and, unless
// the server is on this machine (spare.go), a new socket (exchange.go), and accepts a reply only if it repeats the question (wire.go); the message becomes an answer of ready
// slices (answer.go), which the cache keeps and all callers share.
//
// github.com/miekg/dns unpacks messages. Its client is not used: it takes replies to other questions, does not turn to
// TCP for truncated ones, and does not notice that a context was cancelled.
//
// What was left out: random case in names (0x20). The servers are the operator's own and near; a new port and id per
// query to servers elsewhere, and TCP as soon as strangers' replies arrive, leave little to guess.
package resolver
