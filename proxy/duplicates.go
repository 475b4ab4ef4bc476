package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/wire"
)

// Duplicates is the key `duplicates`: what is done with a message that was delivered already.
type Duplicates uint8

const (
	// DeliverDuplicates delivers what comes, as every mail server does (RFC 1047).
	DeliverDuplicates Duplicates = iota
	// SuppressDuplicates answers 250 without a second delivery where the first one's client does not seem to have read the
	// reply: it must come from the same network (IPv4 /24, IPv6 /64) or SPF domain, with the same envelope and content.
	SuppressDuplicates
)

var duplicatesNames = [...]string{DeliverDuplicates: "deliver", SuppressDuplicates: "suppress"}

func (d Duplicates) String() string { return duplicatesNames[d] }

// MarshalText writes the name that UnmarshalText reads.
func (d Duplicates) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "deliver" or "suppress".
func (d *Duplicates) UnmarshalText(text []byte) error {
	for i, name := range duplicatesNames {
		if name == string(text) {
			*d = Duplicates(i)
			return nil
		}
	}
	return fmt.Errorf("%q is nothing to do with duplicates: deliver or suppress", text)
}

const (
	// copiesSpace is where the store keeps deliveries that were not confirmed: marks under each fingerprint, under each
	// fingerprint with the transaction's ID behind it, and under the ID. The first is what is asked for every message, in
	// one round trip; the second tells the ID, by a look at the keys that begin with the fingerprint, which stores keep
	// together; the third goes when the client turns out to know after all.
	copiesSpace = "delivery"
	// copiesKept is how long. RFC 5321, 4.5.4.1: clients try again for days, but soon after a failure first.
	copiesKept = 48 * time.Hour
	// copiesPatience bounds what a session waits for the store. It is short beside what the message took.
	copiesPatience = 2 * time.Second
	// maxCopies bounds the deliveries of one message that are looked at: there is more than one only after the store failed.
	maxCopies = 16
)

// deliveries knows those that were made to clients who are still connected and have not confirmed the reply: such a
// client may be gone long before we see it. There are no more than such transactions. Safe for concurrent use.
//
// The store gets them when the session ends. To write each delivery there before its reply, and to forget nearly all of
// them a moment later, would cost two writes a message and still not outlive a crash of the process, since the store
// commits some time later: that alone is what a crash makes be delivered twice.
type deliveries struct {
	mu   sync.Mutex          // guards all below
	ids  map[string]string   // by fingerprint
	open map[string][]string // fingerprints by ID

	tell      func(News)                              // who has inherited them; nil: nobody
	elsewhere func(fingerprints []string) (id string) // asks the heir; nil: there is none
}

func (d *deliveries) add(fingerprints []string, id string) {
	if len(fingerprints) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids, d.open = make(map[string]string), make(map[string][]string)
	}
	d.open[id] = fingerprints
	for _, f := range fingerprints {
		d.ids[f] = id
	}
	if d.tell != nil {
		d.tell(News{ID: id, Fingerprints: fingerprints})
	}
}

// remove forgets a delivery, and tells whether it was still known.
func (d *deliveries) remove(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	fingerprints, known := d.open[id]
	delete(d.open, id)
	for _, f := range fingerprints {
		if d.ids[f] == id {
			delete(d.ids, f)
		}
	}
	if known && d.tell != nil {
		d.tell(News{ID: id, Forgotten: true})
	}
	return known
}

func (d *deliveries) find(fingerprints []string) (id string) {
	d.mu.Lock()
	elsewhere := d.elsewhere
	for _, f := range fingerprints {
		if id = d.ids[f]; id != "" {
			break
		}
	}
	d.mu.Unlock()
	if id == "" && elsewhere != nil {
		return elsewhere(fingerprints)
	}
	return id
}

// suppress answers a message that was delivered before to a client who did not confirm it. False: it has to be
// delivered. That is so too where the store cannot tell.
func (s *session) suppress() bool {
	if s.service.Duplicates != SuppressDuplicates {
		return false
	}
	tx := s.tx
	tx.copies = s.fingerprints()
	first := s.server.deliveries.find(tx.copies)
	if first == "" {
		var err error
		if first, err = s.findCopy(tx.copies); err != nil {
			s.server.metrics.StoreErrors.Add(1)
			s.log().Warn("whether a message was delivered before cannot be found out; it is delivered", "transaction", tx.envelope.ID, "error", err)
		}
	}
	if first == "" {
		return false
	}
	tx.copyOf = first
	s.server.metrics.Suppressed.Add(1)
	s.log().Info("suppressed duplicate", "transaction", tx.envelope.ID, "of", first)
	s.answer(wire.NewReply(250, "2.0.0", "Ok: delivered before as "+first),
		policy.Ending{Ours: true, Note: "suppressed duplicate of " + first, Suppressed: first})
	return true
}

// findCopy asks the store for the ID of an unconfirmed delivery.
func (s *session) findCopy(fingerprints []string) (id string, err error) {
	ctx, cancel := context.WithTimeout(s.server.base, copiesPatience)
	defer cancel()
	store := s.service.Store
	marks, err := store.Peek(ctx, copiesSpace, fingerprints)
	if err != nil {
		return "", err
	}
	var ids []string
	for i, m := range marks {
		if !m.Exists() {
			continue
		}
		err := store.Range(ctx, copiesSpace, fingerprints[i]+" ", func(key string, _ filters.Mark) bool {
			_, id, _ := strings.Cut(key, " ")
			ids = append(ids, id)
			return len(ids) < maxCopies
		})
		if err != nil {
			return "", err
		}
	}
	if ids == nil {
		return "", nil
	}
	if marks, err = store.Peek(ctx, copiesSpace, ids); err != nil {
		return "", err
	}
	for i, m := range marks {
		if m.Exists() {
			return ids[i], nil
		}
	}
	return "", nil
}

// settleCopies is told that the client knows how the transaction came out: what it sends from now on is meant.
func (s *session) settleCopies(tx *transaction) {
	if tx.copies == nil {
		return
	}
	id := tx.envelope.ID
	if tx.copyOf != "" {
		id = tx.copyOf
	}
	s.server.deliveries.remove(id)
	if tx.copyOf != "" {
		s.keepCopies("cannot be forgotten", func(ctx context.Context, store filters.Store) error {
			_, err := store.Forget(ctx, copiesSpace, copyKeys(tx.copies, id))
			return err
		})
	}
}

// rememberCopies is told that nobody knows whether the client knows.
func (s *session) rememberCopies(tx *transaction) {
	if tx.copies == nil || !s.server.deliveries.remove(tx.envelope.ID) {
		return
	}
	s.keepCopies("cannot be remembered; if it is sent again it is delivered again", func(ctx context.Context, store filters.Store) error {
		return store.Pass(ctx, copiesSpace, copyKeys(tx.copies, tx.envelope.ID), copiesKept)
	})
}

func (s *session) keepCopies(failure string, do func(context.Context, filters.Store) error) {
	ctx, cancel := context.WithTimeout(context.Background(), copiesPatience)
	defer cancel()
	if err := do(ctx, s.service.Store); err != nil {
		s.server.metrics.StoreErrors.Add(1)
		s.log().Warn("an unconfirmed delivery "+failure, "error", err)
	}
}

func copyKeys(fingerprints []string, id string) []string {
	keys := []string{id}
	for _, f := range fingerprints {
		keys = append(keys, f, f+" "+id)
	}
	return keys
}

// fingerprints stand for the message, its envelope, and where it comes from: the network, and the SPF domain if there is
// one. Everything is in them that two deliveries must have in common; each part ends with a byte that it cannot hold.
func (s *session) fingerprints() []string {
	tx := s.tx
	h := sha256.New()
	h.Write(tx.incoming.digest[:])
	found := tx.incoming.decoder.Found()
	fmt.Fprintf(h, "%d %d\r\n%s\r\n", found.BareLF, found.BareCR, tx.envelope.ReversePath)
	for _, p := range tx.envelope.Params {
		if p.Key != "SIZE" { // the only one that is no more than a hint
			fmt.Fprintf(h, "%s=%s %t\r\n", p.Key, p.Value, p.HasValue)
		}
	}
	rcpts := make([]string, len(tx.rcpts))
	for i, line := range tx.rcpts {
		rcpts[i] = string(line)
	}
	slices.Sort(rcpts)
	for _, rcpt := range rcpts {
		fmt.Fprintf(h, "%s\r\n", rcpt)
	}
	common := h.Sum(nil)
	list := []string{fingerprint(common, "network", originNetwork(s.info.Client.IP).String())}
	if domain := s.gate.SenderDomain(); domain != "" {
		list = append(list, fingerprint(common, "domain", domain))
	}
	return list
}

func fingerprint(common []byte, kind, value string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s%s %s", common, kind, value))
	return hex.EncodeToString(h[:])
}
