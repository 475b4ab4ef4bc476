// Package dkim checks the DKIM signatures of a message (RFC 6376, RFC 8301, RFC 8463).
//
// The verifier is emersion/go-msgauth. What it lacks stands around it:
//
//   - In front, what can be judged without cryptography: bounds of the header (check.go), the signature's own text
//     (signature.go), the keys, asked for side by side while the message arrives (key.go), and line ends and blank lines
//     of the body (lines.go). Only a signature that is still open then, and a key that is fit for it, get any further.
//   - library.go has go-msgauth verify one signature at a time, over the fields that its h= names, and bounds how often
//     it reads the body.
//   - own.go verifies what go-msgauth would refuse although it is good: a "b=" outside of the tag b=, upper case in i=,
//     a=, c= or q=, an h= that reaches for the signature itself, an x= that our clock and the machine's see differently;
//     further, the second and later keys of one name, folded fields that would cost the library quadratic time, and
//     signatures for which no more passes of the body are to be had. That is about the header only: the body hash of
//     these too is judged by go-msgauth.
//
// The road not taken is one call for all signatures, with the body hashed while it arrives. Its answers would have to be
// told apart by name and order, two signatures could not have different records of one name, a read error would leave
// goroutines behind (verify.go:189 of v0.7.0), and the library would be deep in a body before the guard has refused it.
// The price is that hashing starts when the message is complete: some 5 ms for each MiB.
//
// The filter and its facts are in dkim.go, the order of all this in check.go.
package dkim
