// Package dmarc judges whether the domain in a message's From is authenticated by SPF or DKIM, and what its owner wants
// done if it is not (DMARC, RFC 9989, which replaces RFC 7489).
//
// Reading order: check.go is the whole evaluation; from.go finds the author's domain and errs on the side of finding
// none; record.go reads a policy record; walk.go finds records and organizational domains, and is the only place that
// asks the DNS; align.go compares domains. The filter and its facts are in dmarc.go.
package dmarc
