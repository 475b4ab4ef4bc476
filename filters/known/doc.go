// Package known remembers who has sent mail here before, and to whom users here have written.
//
//	MAIL       one look into the store, for senders that SPF proves; nobody else profits from what is known
//	end        the backend's 250 is noted in memory: the domain, the sender; of a user's mail its recipients
//	later      what was noted is written together, each thing once in a while (book.go)
//
// A look is [filters.Store.Peek], a note one of many keys of a [filters.Store.Attempt] whose delay is nothing: its first
// attempt is when somebody became known, its attempts are messages.
package known
