// Package calledtest is what the tests of the front ends have in common that MTAs call: an MTA that asks them, a journal,
// and the session table.
//
// # The session table
//
// Every dialogue of the SMTP front end (proxy/testdata) is held twice: with the proxy, and with an MTA that asks the front
// end under test. Replies must have the same codes, and records the same recipients, matches, facts and verdicts, as far
// as the front end is shown what they are about. To what the dialogue's own rules read a rule is added that reads a fact
// of every filter, so that all of them look.
//
// New dialogues take part by themselves. Out of it is what [Script.Left] finds to be about the proxy's wire, and what says
// so in a line before its first section: "SMTP only: " and the reason. A key or directive of dialogues that it does not
// know is an error: whoever adds one says here whether it is about the wire.
package calledtest
