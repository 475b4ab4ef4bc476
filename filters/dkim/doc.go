// Package dkim checks the DKIM signatures of a message (RFC 6376, RFC 8301, RFC 8463).
//
//   - First what can be judged without cryptography: bounds of the header (check.go) and the signature's own text
//     (signature.go). For a signature that is still open then, the key is asked for while the message arrives (key.go).
//   - The body goes once, as it arrives, through one hash for each canonicalization that a signature names (package
//     canonical). When it is complete, each signature is verified by our own code (own.go): one that verifies passes.
//   - One that does not is shown to emersion/go-msgauth (library.go), and passes if that says so: no good message shall be
//     refused for a mistake of ours alone. Of what go-msgauth cannot bear or cannot judge it is not asked: the header is
//     cut down to the fields that h= names, long runs of blank lines end it (lines.go), and where it would refuse a good
//     signature for a flaw of its own, it is not called at all. It is asked twice for a message, at most.
//
// The other way round, tests and a fuzz target hold that nothing passes by our word that go-msgauth would refuse, but for
// those flaws. They are a "b=" outside of the tag b=, upper case in i=, a=, c= or q=, an h= that reaches for the signature
// itself, an x= that our clock and the machine's see differently, and a second record of one name.
//
// The road not taken is go-msgauth first. It hashes the body anew for each signature, when the message is complete, and
// takes as long for 4 KiB and its header as the cryptography; five times as long as here for 1 MiB.
//
// The filter and its facts are in dkim.go, the order of all this in check.go.
package dkim
