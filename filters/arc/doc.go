// Package arc validates Authenticated Received Chains (ARC, RFC 8617): what servers that a message passed on its way
// wrote about it, each signing over what the ones before had written.
//
// The validation is a straight line, cheapest first: the fields are sorted into sets (chain.go) and their tags judged
// (taglist.go, signature.go), the keys are asked for side by side (key.go) while the body passes once through one hash
// (package canonical), and then the newest message signature and all seals are verified (validate.go, header.go). What the
// chain is worth, which is a question of whom we trust, is in trust.go; the filter and its facts are in arc.go.
//
// A message of any size and with any content costs one pass over its body, at most 51 look-ups and as many signature
// checks. Sealing is not here.
package arc
