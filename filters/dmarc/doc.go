// Package dmarc judges whether the domain in a message's From is authenticated by SPF or DKIM, and what its owner wants
// done if it is not (DMARC, RFC 9989, which replaces RFC 7489).
//
// Reading order: dmarc.go has the filter, its two looks at a message and its facts; check.go is the whole evaluation.
// from.go and address.go find the author's domain and err on the side of finding none; record.go reads a policy record;
// walk.go finds records and organizational domains, compares domains, and asks the DNS; override.go knows the forwarders.
//
// Aggregate reports (RFC 9990): row.go turns a message's end into a row, collect.go counts it in the store under the keys
// of marks.go, reports.go puts a day together again, and destination.go finds out who may have it. The package report
// writes it down.
package dmarc
