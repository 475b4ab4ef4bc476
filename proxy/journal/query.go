package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Query says which entries are wanted. Its zero value wants all of them, the oldest first.
type Query struct {
	// Since and Until bound when the entries ended; Until is not included. The zero times do not bound.
	Since, Until time.Time
	Newest       bool // the newest first
	// Follow waits for entries to come, until the context ends. It is for the oldest first.
	Follow bool
	// Confirmations fills in Entry.Confirmed. It costs a second look at everything in question.
	Confirmations bool
	// Changes says whether entries that tell a change are wanted: a query for an address or a client takes those that
	// concern it, one for an id also those about the message of that id.
	Changes Wanted

	// At most one of these is set.

	ID      string     // of a session, with all its transactions, or of a transaction
	Address string     // a sender's or a recipient's as it was kept: see Reader.Disguise
	Client  netip.Addr // a client's
}

// Wanted says whether changes are wanted beside mail.
type Wanted uint8

// What is wanted.
const (
	MailOnly Wanted = iota
	MailAndChanges
	ChangesOnly
)

// confirmTime bounds for how long after its end a confirmation of a transaction is looked for: clients that are silent
// for longer have been sent away.
const confirmTime = 15 * time.Minute

// pollInterval is how often Follow looks for more.
const pollInterval = 200 * time.Millisecond

// Each calls yield for the entries that a query wants until it returns false. An entry is good until yield returns; see
// Entry.Clone. Entries stand in the order in which they were written, which is about that in which they ended.
func (r *Reader) Each(ctx context.Context, q Query, yield func(*Entry) bool) error {
	s := &search{Query: q, reader: r, yield: yield}
	if err := s.prepare(); err != nil {
		return err
	}
	if q.Confirmations {
		if err := s.confirm(ctx); err != nil {
			return err
		}
	}
	if q.Newest {
		return s.backwards(ctx)
	}
	return s.forwards(ctx)
}

// search is a query under way.
type search struct {
	Query
	reader    *Reader
	yield     func(*Entry) bool
	entry     Entry
	keys      []uint64 // one of which a block must have; nil: all blocks are worth it
	confirmed map[string]time.Time
}

func (s *search) prepare() error {
	set := 0
	if s.ID != "" {
		set++
		s.keys = []uint64{hashKey(idKey, sessionOf(s.ID))}
		if began, ok := IDTime(s.ID); ok && began.After(s.Since) {
			s.Since = began.Add(-time.Second) // the id has no less than a millisecond
		}
	}
	if s.Address != "" {
		set++
		s.keys = []uint64{hashKey(mailKey, s.Address)}
	}
	if s.Client.IsValid() {
		set++
		s.Client = s.Client.Unmap().WithZone("")
		s.keys = []uint64{hashKey(addressKey, s.Client.String())}
	}
	switch s.Changes {
	case ChangesOnly:
		if s.ID == "" {
			s.keys = []uint64{hashKey(changeKey, "")}
		}
	case MailAndChanges:
		if s.ID == "" && len(s.keys) > 0 {
			s.keys = append(s.keys, hashKey(changeKey, ""))
		}
	}
	if set > 1 || s.Follow && s.Newest {
		return errors.New("journal: a query is for an id, an address or a client, and what is to come has no newest first")
	}
	return nil
}

func (s *search) worth(b *blockInfo) bool {
	if !s.Since.IsZero() && b.max < s.Since.UnixNano() || !s.Until.IsZero() && b.min >= s.Until.UnixNano() {
		return false
	}
	return len(s.keys) == 0 || slices.ContainsFunc(s.keys, func(key uint64) bool { return bloomHas(b.bloom, key) })
}

func (s *search) wants(e *Entry) bool {
	switch {
	case !s.Since.IsZero() && e.End.Before(s.Since), !s.Until.IsZero() && !e.End.Before(s.Until):
		return false
	case e.Change == nil && s.Changes == ChangesOnly, e.Change != nil && s.Changes == MailOnly:
		return false
	case e.Change != nil:
		return s.wantsChange(e.Change)
	case s.ID != "":
		return e.ID == s.ID || strings.HasPrefix(e.ID, s.ID) && e.ID[len(s.ID)] == '.'
	case s.Client.IsValid():
		return e.Session != nil && e.Session.Client.IP.Unmap().WithZone("") == s.Client
	case s.Address != "":
		return e.Concerns(s.Address)
	}
	return true
}

func (s *search) wantsChange(c *Change) bool {
	switch {
	case s.ID != "":
		return c.ID == s.ID || c.About != "" && (c.About == s.ID || sessionOf(c.About) == s.ID)
	case s.Client.IsValid():
		return c.Concerns(s.Client)
	case s.Address != "":
		return c.Concerns(netip.Addr{}, s.Address)
	}
	return true
}

// Concerns tells whether an address is the sender's or a recipient's. The case of its letters does not matter.
func (e *Entry) Concerns(address string) bool {
	if e.Envelope != nil && strings.EqualFold(e.Envelope.ReversePath, address) {
		return true
	}
	return slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return strings.EqualFold(r.Address, address) })
}

// files are the files of interest, oldest first.
func (s *search) files() ([]segment, error) {
	all, err := segments(s.reader.folder)
	return slices.DeleteFunc(all, func(f segment) bool { return !f.since(s.Since) }), err
}

func (s *search) forwards(ctx context.Context) error {
	last := uint64(0)
	for {
		files, err := s.files()
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		for _, file := range files {
			if file.number < last {
				continue
			}
			if file.number > last {
				s.reader.closeFile(last)
			}
			last = file.number
			more, err := s.file(ctx, file, func(f *openFile, b blockInfo) bool { return s.block(f.unpack(b)) })
			if !more || err != nil {
				return err
			}
		}
		if !s.Follow {
			s.reader.closeFile(last)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollInterval):
		}
	}
}

// file visits the blocks of a file; one that is gone meanwhile has none.
func (s *search) file(ctx context.Context, file segment, visit func(*openFile, blockInfo) bool) (more bool, err error) {
	f, err := s.reader.open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	return f.visitBlocks(ctx, s.worth, func(b blockInfo) bool { return visit(f, b) })
}

// backwards collects where the blocks of a file are and reads them from the end.
func (s *search) backwards(ctx context.Context) error {
	files, err := s.files()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, file := range slices.Backward(files) {
		s.reader.closeFile(file.number)
		var blocks []blockInfo
		var opened *openFile
		if _, err := s.file(ctx, file, func(f *openFile, b blockInfo) bool {
			opened = f
			b.bloom = nil
			blocks = append(blocks, b)
			return true
		}); err != nil {
			return err
		}
		for _, b := range slices.Backward(blocks) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !s.blockBackwards(opened.unpack(b)) {
				s.reader.closeFile(file.number)
				return nil
			}
		}
		s.reader.closeFile(file.number)
	}
	return nil
}

// block hands on the entries of a block.
func (s *search) block(k *block) (more bool) {
	if k == nil {
		return true
	}
	u := k.entries
	for range k.count {
		if p := u.part(); !s.one(k, p) {
			return false
		}
		if k.garbled {
			return true
		}
	}
	return true
}

func (s *search) blockBackwards(k *block) (more bool) {
	if k == nil {
		return true
	}
	var parts []unpacker
	u := k.entries
	for range k.count {
		parts = append(parts, u.part())
	}
	for _, p := range slices.Backward(parts) {
		if !s.one(k, p) {
			return false
		}
	}
	return true
}

func (s *search) one(k *block, p unpacker) (more bool) {
	if kind := p.peekKind(); kind == confirmationEntry || kind == changeEntry && s.Changes == MailOnly {
		return true
	}
	raw := p.buf
	kind, _ := k.entry(&p, &s.entry)
	if kind != sessionEntry && kind != transactionEntry && kind != changeEntry || k.garbled || !s.wants(&s.entry) {
		return true
	}
	s.entry.source, s.entry.raw = k, raw
	s.entry.Confirmed = s.confirmed[s.entry.ID]
	return s.yield(&s.entry)
}

func (u *unpacker) peekKind() int {
	if len(u.buf) == 0 {
		return 0
	}
	return int(u.buf[0])
}

// Clone returns a copy that stays good. It keeps the texts of its block in memory.
func (e *Entry) Clone() *Entry {
	c := &Entry{}
	u := e.source.reader(slices.Clone(e.raw))
	c.source, c.raw = e.source, u.buf
	e.source.entry(&u, c)
	c.Confirmed = e.Confirmed
	return c
}
