package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"gatepost/proxy/quarantine"
	"gatepost/rules"
)

// plannedKeeper keeps or fails as planned, by the message's number.
type plannedKeeper struct {
	mu   sync.Mutex // guards all below
	plan []bool
	kept map[string]string // messages by ID
}

func (k *plannedKeeper) Keep(e *quarantine.Entry, body io.WriterTo, size int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	good := len(k.plan) > 0 && k.plan[0]
	k.plan = k.plan[min(1, len(k.plan)):]
	var b bytes.Buffer
	if n, err := body.WriteTo(&b); err != nil || n != size {
		return fmt.Errorf("%d bytes of %d: %w", n, size, err)
	}
	if !good {
		return errors.New("no such luck")
	}
	k.kept[e.ID] = b.String()
	return nil
}

func (k *plannedKeeper) message(id string) (text string, kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, kept = k.kept[id]
	return text, kept
}

// TestNo250BeforeItIsKept: a client hears 250 exactly if quarantine has its message whole, and 550 for what is refused
// whatever becomes of the copy; the backend sees none of them.
func TestNo250BeforeItIsKept(t *testing.T) {
	definitions := []rules.Definition{
		definition(map[string]string{"name": "kept", "when": `mail.local == "kept"`, "then": "quarantine"}),
		definition(map[string]string{"name": "copied", "when": `mail.local == "copied"`, "then": "reject", "at": "message", "keep": "copy"}),
	}
	h := start(t, setup{rules: definitions}) // has no quarantine at all
	for sender, want := range map[string]string{"kept": "452 4.3.1 ", "copied": "550 5.7.1 "} {
		c := h.hello()
		c.say("MAIL FROM:<"+sender+"@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		c.say("Subject: x\r\n.", want)
	}
	rapid.Check(t, func(r *rapid.T) {
		keeper := &plannedKeeper{plan: rapid.SliceOfN(rapid.Bool(), 5, 5).Draw(r, "plan"), kept: map[string]string{}}
		plan := keeper.plan
		h, stop := startUnbound(t, setup{rules: definitions, keeper: keeper})
		defer stop()
		c := h.hello()
		for n, good := range plan {
			sender := rapid.SampledFrom([]string{"kept", "copied"}).Draw(r, "sender")
			text := "\r\n" + strings.Repeat(fmt.Sprint(n, " bytes\r\n"), rapid.SampledFrom([]int{1, 100_000}).Draw(r, "lines"))
			c.say("MAIL FROM:<"+sender+"@example.org>", "250")
			c.say("RCPT TO:<b@example.com>", "250")
			want := "550 5.7.1 "
			if sender == "kept" && good {
				want = "250 2.0.0 "
			} else if sender == "kept" {
				want = "452 4.3.1 "
			}
			if rapid.Bool().Draw(r, "in chunks") {
				c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
			} else {
				c.say("DATA", "354")
				c.send(text + ".\r\n")
			}
			reply := c.expect(want)
			_, id, _ := strings.Cut(reply, "(id ")
			id, _, _ = strings.Cut(id, ")")
			if stored, kept := keeper.message(id); kept != good || kept && stored != text {
				r.Fatalf("%s: kept %t, want %t", reply, kept, good)
			}
		}
		c.say("QUIT", "221")
		if got := h.backends[0].Messages(); len(got) > 0 {
			r.Fatalf("the backend has %d messages", len(got))
		}
	})
}
