// Package rules is the rule language: parse, type-check, compile, evaluate. It does no I/O and knows nothing of SMTP
// beyond reply codes; what facts there are comes in as Go structs ([Group]), list files come in through [Lists].
//
// # The language
//
// A condition is an expression over facts:
//
//	dnsbl.score > 0 or not rdns.confirmed or spf.result in ["none", "softfail"]
//
//	and or not == != < <= > >=      as usual; `not` binds tighter than a comparison: not (a == b)
//	x in ["a", "b"], "a" in list    list in list: any of them; also `not in`
//	contains startsWith endsWith    a part of a text, case matters
//	text matches "regexp"           RE2
//	+ - *                           numbers
//	score                           sum of the score rules that were evaluated before
//	known(fact)                     is the fact there?
//	in_network(address, "192.0.2.0/24", …)
//	in_domain(text or list, "example.org", …)     the name itself or below it; of an address its domain
//	in_list(fact, "file")           see lists.go for what a file holds
//	lower(text) len(text or list)   A to Z only; bytes, or number of entries
//	header("Name")                  the first field of that name, empty if there is none
//
// expr-lang/expr parses. Its checker is not used: it knows Go's types and not the values a fact can have, and stops at
// the first mistake. Our compiler admits only the parts of the tree listed above, checks kinds and literals, and makes
// nodes of ours (type condition) from it. What was compiled cannot fail: there is no division, no index, no conversion.
//
// # Three values
//
// A fact can be absent. A comparison with it is Unknown, and `and`, `or` and `not` follow Kleene: false and unknown is
// false, true or unknown is true, otherwise unknown stays unknown. Only [True] matches.
//
// # Stage and order
//
// A rule is ready at the stage at which the last fact it reads becomes known; one that reads `score`, not before the
// score rules above it have acted. It acts as soon as it is ready, but not before the stage at which refusals are
// spoken (RCPT), unless `at:` says so. That holds for all actions alike, also for score, tag and slow: so within a
// stage the order is that of the file, an exception above shields from everything below it, and there is one
// sentence to remember: order is stage, then file, and the first terminal action wins. [Compile] warns where a later line
// acts earlier.
//
// # Recipients of one message
//
// One reply ends the data of all recipients. [Rule.Open] tells whether facts to come could still make a rule match and
// [Rule.Residual] what is left of it for one recipient, so that recipients whose answers may differ can be told apart.
package rules
