// Package spf checks whether the client may use the sender's domain (SPF, RFC 7208).
//
// [Check] is the whole of check_host() as a function of a resolver and a [Query]. A record is parsed once, all of it,
// before any of it is evaluated, as an error anywhere counts (4.6). Reading order: check.go (the function and its
// limits), record.go (grammar), mechanism.go (what matches), macro.go (names and texts with macros), lookup.go (the
// only place that asks the DNS), wide.go (passes that say nothing). The filter itself is in spf.go.
package spf
