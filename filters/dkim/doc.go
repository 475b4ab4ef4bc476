// Package dkim checks the DKIM signatures of a message (RFC 6376, RFC 8301, RFC 8463).
//
// The check is a straight line: signatures are read and judged by what can be seen without cryptography (signature.go),
// their keys are asked for side by side (key.go) while the body passes once through at most two hashes (body.go), and
// what is left is compared (verify.go, header.go). The filter and its facts are in dkim.go, the order of all this in
// check.go.
//
// The verification is our own and not that of emersion/go-msgauth, against which the tests compare it. That library
// cannot be bounded from outside: a body of empty lines costs it quadratic time (1 MiB: 0.2 s for each signature), it
// hashes the body once per signature, and it deletes every "b=" of a signature field and not only the tag of that name,
// so that a valid signature with "b=" inside of z= cannot pass whatever one feeds it.
package dkim
