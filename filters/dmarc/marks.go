package dmarc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
)

// space is where the store keeps what reports count.
const space = "dmarc"

// What a report is made of is text that was counted: rows, and the records that applied. The store counts attempts under
// keys, so the text is the key; a text that does not fit into one is spread over several, which are always counted
// together:
//
//	2026-01-05|example.org|r|3f2a9c0d1e4b5a67|00|{"i":"192.0.2.1",…}
//	day        policy domain kind  hash of the text  part
const (
	kindRow     = "r"
	kindRecord  = "p"
	kindMissing = "o" // counts messages that no row was left for

	maxKey  = 500 // the store hashes keys of 512 bytes
	maxPart = 99
)

// textID names a text within a domain's day.
func textID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// keysOf are the keys of a text; none if it is too long to be kept.
func keysOf(day, domain, kind, text string) []string {
	prefix := day + "|" + domain + "|" + kind + "|" + textID(text) + "|"
	room := maxKey - len(prefix) - len("00|")
	if (len(text)+room-1)/room > maxPart {
		return nil
	}
	var keys []string
	for part := 0; part == 0 || text != ""; part++ {
		n := min(room, len(text))
		keys = append(keys, fmt.Sprintf("%s%02d|%s", prefix, part, text[:n]))
		text = text[n:]
	}
	return keys
}

// fragment is one key, read.
type fragment struct {
	domain, kind, id, text string
	part                   int
}

func parseKey(key string) (f fragment, ok bool) {
	words := strings.SplitN(key, "|", 6)
	if len(words) != 6 {
		return f, false
	}
	part, err := strconv.Atoi(words[4])
	return fragment{words[1], words[2], words[3], words[5], part}, err == nil
}

// counted is a text and how often it was counted.
type counted struct {
	kind, text string
	count      uint64
	last       time.Time
}

// tally puts the texts of a day together again.
type tally struct {
	pieces map[fragment]*pieces // by domain, kind and id
}

type pieces struct {
	parts []fragment
	count uint64
	last  time.Time
}

func newTally() *tally { return &tally{pieces: map[fragment]*pieces{}} }

func (t *tally) add(key string, m filters.Mark) {
	f, ok := parseKey(key)
	if !ok {
		return
	}
	name := fragment{domain: f.domain, kind: f.kind, id: f.id}
	p := t.pieces[name]
	if p == nil {
		p = &pieces{}
		t.pieces[name] = p
	}
	p.parts = append(p.parts, f)
	if f.part == 0 {
		p.count, p.last = uint64(m.Attempts), m.Last
	}
}

// domains returns the texts by domain. One of which a part is missing is left out: its hash tells.
func (t *tally) domains() map[string][]counted {
	byDomain := map[string][]counted{}
	for name, p := range t.pieces {
		slices.SortFunc(p.parts, func(a, b fragment) int { return a.part - b.part })
		var text strings.Builder
		for _, f := range p.parts {
			text.WriteString(f.text)
		}
		if textID(text.String()) == name.id {
			byDomain[name.domain] = append(byDomain[name.domain], counted{name.kind, text.String(), p.count, p.last})
		}
	}
	return byDomain
}
