// Package dnsbl asks DNS block and allow lists (RFC 5782) about the client's address, its name, the name in EHLO and
// the sender's domain.
//
// An observation (dnsbl.go) puts its question to all lists of its kind at once and adds up the weights of what they
// answer (ask.go, codes.go). A list only counts while it is sane: it must list the test point of RFC 5782 and must not
// list its opposite (health.go). Otherwise a list that was shut down and now answers everything would refuse all mail.
package dnsbl
