// Package authres reads and writes the Authentication-Results field (RFC 8601).
//
// The field is how a border server tells the programs behind it who a message is from, so a forged one is an attack.
// Three functions follow from that:
//
//   - [Format] writes our own field. Whatever a value holds, it cannot become syntax.
//   - [ClaimsToBe] tells which inbound fields must go because they pretend to be ours. It errs on the side of removal.
//   - [Parse] reads what others wrote. It puts up with the field as the real world writes it, but text inside a comment
//     or a quoted string is never taken for a result.
//
// All functions are pure, safe for concurrent use and linear in the size of their input.
package authres
