package journal

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/policy"
	"gatepost/rules"
)

// ChangeEntry is the kind of an entry that tells what was changed beside the mail, and by whom.
const ChangeEntry = "change"

// Change is what an operator has done to a running proxy, or the rules that came into force.
type Change struct {
	ID string // of its own, made as a session's is
	At time.Time
	// What was done: one of Changes.
	What string
	// By is who did it: a user of this machine, or the admin page and the address that it was used from. Empty: nobody, as
	// at a start, or nobody knows.
	By string
	// Kind is what About is: client, sender or recipient; empty where the form of About tells, or nothing does.
	Kind string
	// About is what it concerns: an address, a network, a domain, a query of the greylist, the id of a message.
	About string
	Until time.Time // of an exception or a bypass; zero: for good
	Why   string    // in the operator's words
	Note  string    // what came of it
	// Rules are those in force from then on; for entries of Start, Reload and Rules alone.
	Rules []*Rule
}

// Changes are all that a Change can be.
var Changes = []string{Allow, Block, AllowEnd, BlockEnd, Pass, Forget, Learn, Release, Delete, Bypass, BypassEnd, Merge, Start, Reload, Rules}

// What was done.
const (
	Allow     = "allow"
	Block     = "block"
	AllowEnd  = "allow-end"
	BlockEnd  = "block-end"
	Pass      = "pass"   // a greylist mark
	Forget    = "forget" // greylist marks, or what a filter has learned
	Learn     = "learn"  // greylist passes from elsewhere
	Release   = "release"
	Delete    = "delete" // from quarantine
	Bypass    = "bypass"
	BypassEnd = "bypass-end"
	Merge     = "merge"  // marks into the store
	Start     = "start"  // of the process, with these rules
	Reload    = "reload" // of the configuration, with these rules
	Rules     = "rules"  // are still in force; written once a day, since old entries are removed
)

// Changed records a change. Where it has no time, now is meant.
func (j *Journal) Changed(c Change) { j.changed(c, nil) }

// InForce records a change after which these rules are in force, and repeats them once a day.
func (j *Journal) InForce(c Change, set []*rules.Rule) { j.changed(c, set) }

func (j *Journal) changed(c Change, set []*rules.Rule) {
	if c.At.IsZero() {
		c.At = j.clock.Now()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(set) > 0 {
		j.rules, j.rulesTold = set, c.At
	}
	if j.admit() {
		j.metrics.Records.Add(1)
		j.current.change(&c, set)
		j.added()
	}
}

// repeatInterval is how often the rules in force are written again.
const repeatInterval = 24 * time.Hour

// repeatRules keeps the rules in force known when the entry that told them is removed.
func (j *Journal) repeatRules(now time.Time) {
	j.mu.Lock()
	set, due := j.rules, len(j.rules) > 0 && now.Sub(j.rulesTold) >= repeatInterval
	j.mu.Unlock()
	if due {
		j.changed(Change{What: Rules, At: now}, set)
	}
}

// change adds a change.
func (b *builder) change(c *Change, set []*rules.Rule) {
	d := b.disguise
	d.nextRecord()
	for _, word := range strings.Fields(c.About) {
		if strings.Contains(word, "@") {
			d.watch(word)
		}
	}
	start := b.begin()
	b.count(changeEntry)
	b.field(coreField, func(b *builder) {
		b.text(c.ID)
		b.time(c.At)
		b.signed(0)
		b.text("")
	})
	b.field(changeField, func(b *builder) {
		b.text(c.What)
		b.text(c.By)
		b.text(c.Kind)
		b.text(b.about(c.About))
		b.time(c.Until)
		b.foreign(c.Why)
		b.foreign(c.Note)
		b.count(len(set))
		for _, r := range set {
			b.rule(r)
		}
	})
	b.end(start)
	b.span(c.At, c.At)
	b.key(changeKey, "")
	for _, id := range []string{c.ID, c.About} {
		if _, ok := IDTime(id); ok {
			b.key(idKey, sessionOf(id))
		}
	}
}

// about hides the local parts of what a change is about.
func (b *builder) about(text string) string {
	words := strings.Fields(text)
	for i, word := range words {
		if strings.Contains(word, "@") {
			words[i] = b.disguise.address(word)
		}
	}
	return strings.Join(words, " ")
}

func (k *block) change(u *unpacker, e *Entry) {
	e.change = Change{ID: e.ID, At: e.Start, What: u.text(), By: u.text(), Kind: u.text(), About: u.text(), Until: u.time(), Why: u.text(), Note: u.text()}
	for range u.count() {
		if r := k.rule(u); r != nil {
			e.change.Rules = append(e.change.Rules, r)
		}
	}
	e.Change = &e.change
}

// Concerns tells whether a change is about a client or one of some mail addresses, as they are kept: themselves, a
// network or domain that they are in, or the message of an id.
func (c *Change) Concerns(client netip.Addr, addresses ...string) bool {
	client = client.Unmap().WithZone("")
	return slices.ContainsFunc(strings.Fields(c.About), func(word string) bool {
		if a, err := netip.ParseAddr(word); err == nil {
			return client.IsValid() && a.Unmap() == client
		}
		if network, err := netip.ParsePrefix(word); err == nil {
			return client.IsValid() && network.Contains(client)
		}
		return slices.ContainsFunc(addresses, func(address string) bool { return covers(word, address) })
	})
}

// covers tells whether a word is a mail address, its domain, or with a dot before it a domain above.
func covers(word, address string) bool {
	_, domain := splitAddress(address)
	switch {
	case word == "" || address == "":
		return false
	case strings.Contains(word, "@"):
		return strings.EqualFold(word, address)
	case word[0] == '.':
		return len(domain) > len(word) && strings.EqualFold(domain[len(domain)-len(word):], word)
	}
	return domain != "" && strings.EqualFold(word, domain[1:])
}

// ConcernsEntry tells whether a change is about a session or transaction: its client, sender, recipients or message, or a
// bypass while it went on.
func (c *Change) ConcernsEntry(e *Entry) bool {
	if c.What == Bypass {
		return e.Bypassed != (policy.Bypassed{}) && c.At.Before(e.End) && c.Until.After(e.Start)
	}
	if c.About == e.ID {
		return true
	}
	var client netip.Addr
	if e.Session != nil {
		client = e.Session.Client.IP
	}
	var addresses []string
	if e.Envelope != nil && c.Kind != "recipient" {
		addresses = append(addresses, e.Envelope.ReversePath)
	}
	if c.Kind != "sender" {
		for i := range e.Recipients {
			addresses = append(addresses, e.Recipients[i].Address)
		}
	}
	return c.Concerns(client, addresses...)
}

// Text is the change in a sentence without an end. Times are written by when.
func (c *Change) Text(when func(time.Time) string) string {
	about := c.About
	if c.Kind != "" {
		about = "the " + c.Kind + " " + about
	}
	text, plain := sentences[c.What]
	if !plain {
		text = c.What + " %s" // of a later release
	}
	if strings.Contains(text, "%s") {
		text = fmt.Sprintf(text, about)
	}
	if c.By != "" {
		text += " by " + c.By
	}
	if !c.Until.IsZero() {
		text += " until " + when(c.Until)
	}
	if n := len(c.Rules); n > 0 {
		text += fmt.Sprintf(", %d rules in force", n)
	}
	if c.Why != "" {
		text += ", because: " + c.Why
	}
	if c.Note != "" {
		text += " (" + c.Note + ")"
	}
	return text
}

var sentences = map[string]string{
	Allow: "%s was allowed", Block: "%s was blocked", AllowEnd: "%s is not allowed any more: ended", BlockEnd: "%s is not blocked any more: ended",
	Pass: "greylisting: %s was let pass", Forget: "%s was forgotten", Learn: "greylisting: passes were taught",
	Release: "the message %s was released from quarantine", Delete: "the message %s was deleted from quarantine",
	Bypass: "bypass: rules were only watched", BypassEnd: "bypass: ended", Merge: "marks were put into the store",
	Start: "gatepost started", Reload: "the configuration was loaded anew", Rules: "no change",
}
