// Package simulate plays the mail of some days through policy: real filters and rules over a real store, under a clock that
// jumps from event to event, with traffic that is made from a seed.
//
//	traffic.go, senders.go, spam.go   who sends, from where, how often
//	schedule.go                       when servers come back, as published
//	dns.go                            what the DNS says of all of them
//	proxy.go                          one attempt through a gate, as a front end drives it
//	run.go                            events in their order, over several proxies
//	result.go                         what came of it
//
// The same seed gives the same events. The shares of the kinds of senders are assumptions, and stand in one table
// (traffic.go): a figure about all mail is as good as they are, and so every kind has its own line in the result.
package simulate
