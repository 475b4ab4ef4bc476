package known

import (
	"strings"
	"time"

	"gatepost/filters"
)

// Concluded implements [filters.Witness]: what the backend took makes its sender known, or whom a user wrote to. Nothing is
// learned of a message for which we answered ourselves, or that came by a trusted relay: its client is not the sender's.
func (f *Filter) Concluded(o *filters.Outcome) {
	v := &o.View
	if o.Kind != filters.MessageOutcome || o.Ours || o.Code != 250 || v.Envelope == nil || v.Envelope.ReversePath == "" {
		return
	}
	if user := user(v); user != "" {
		f.noteCorrespondents(user, v.Recipients)
	} else if !v.Session.Trusted {
		f.noteSender(v)
	}
}

// user is who hands in mail; empty where somebody else's mail server does. RFC 3834, 3.3: answers of programs have no
// sender and never come to here, so that nobody becomes known by asking a vacation responder.
func user(v *filters.View) string {
	switch {
	case v.Greeting != nil && v.Greeting.AuthUser != "":
		return v.Greeting.AuthUser
	case v.Session.Submission: // the mail server lets him without a name: its own machine, or a network
		return strings.ToLower(v.Envelope.ReversePath)
	}
	return ""
}

func (f *Filter) noteSender(v *filters.View) {
	s := identify(*v)
	if s.domain == "" {
		return
	}
	now, keep := f.clock.Now(), time.Duration(f.config.Keep)
	f.book.note(s.domainKey(), keep)
	if old, _ := v.Facts.Bool("known.sender"); !old && !f.senders.take(s.domain, f.config.NewSenders, now) {
		f.book.senders.refused.Add(1)
		return
	}
	f.book.note(s.senderKey(), keep)
}

func (f *Filter) noteCorrespondents(user string, recipients []*filters.Recipient) {
	now := f.clock.Now()
	for _, r := range recipients {
		local, domain := filters.SplitAddress(r.ForwardPath)
		domain = asciiDomain(domain)
		if local == "" || domain == "" || f.isOurs(domain) {
			continue
		}
		key := correspondentKey(local, domain)
		if !f.book.knows(key) && !f.writers.take(user, f.config.NewCorrespondents, now) {
			f.book.correspondents.refused.Add(1)
			continue
		}
		f.book.note(key, time.Duration(f.config.KeepCorrespondents))
	}
}

func (f *Filter) isOurs(domain string) bool {
	if f.ours[domain] {
		return true
	}
	for i := range len(domain) {
		if domain[i] == '.' && f.ours[domain[i:]] {
			return true
		}
	}
	return false
}
