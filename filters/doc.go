// Package filters is the contract between the filters and the rest of the house.
//
// A filter observes: it turns what the SMTP dialogue has told so far (a [View]) into facts, and never knows what
// follows from them. Rules decide over the facts, a front end acts.
//
// A filter is one folder with a Spec made by [Define] and one line in filters/all. It says at which stages it looks
// and with which of its methods:
//
//	var Spec = filters.Define("spf", "Is the client allowed to use this sender domain?", Defaults, New,
//		filters.On(filters.AtMail, (*Filter).Mail))
//
// What such a method returns is a pointer to a struct whose fields are the facts:
//
//	type Facts struct {
//		// Result of the check of the sender's domain.
//		Result string `fact:"result" values:"none neutral pass fail softfail temperror permerror"`
//	}
//
// A fact is a bool, an int, a float64, a string, a []string or a netip.Addr; a pointer to one of these is absent while
// it is nil. An error makes all of the observation's facts absent: rules then see "unknown", never a zero value. Facts
// are never written after they were returned. The comments of the fields are the manual.
//
// Filters open no sockets and no files: they are handed a [Resolver], a [Store] and a [Clock] in their [Env]. Every
// method gets a context with a deadline and returns soon after it ends. One instance serves all sessions at once.
package filters
