package faulttest

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
)

// delivery is a message on its way, and where it comes from. Two that are equal but for the client's host are duplicates.
type delivery struct {
	client     string // 127.0.NET.HOST
	sender     string
	params     string
	recipients string // in the order of the envelope
	body       string
}

// sendFrom plays a session. confirms: the client says NOOP behind the final reply; without, it just leaves.
func (h *house) sendFrom(t rapid.TB, d delivery, confirms bool) (reply string) {
	t.Helper()
	from := &net.TCPAddr{IP: net.ParseIP(d.client)}
	conn, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	c := &talk{Conn: conn, r: bufio.NewReader(conn), ledger: &h.ledger}
	c.SetDeadline(time.Now().Add(clientPatience))
	c.hello()
	c.send("MAIL FROM:<" + d.sender + ">" + d.params + "\r\n")
	c.reply("MAIL", "250")
	for _, r := range strings.Fields(d.recipients) {
		c.send("RCPT TO:<" + r + ">\r\n")
		c.reply("RCPT", "250")
	}
	c.send("DATA\r\n")
	c.reply("DATA", "354")
	c.send("Subject: x\r\n\r\n" + d.body + "\r\n.\r\n")
	c.reply("end of data", "250")
	reply = c.last
	if confirms {
		c.send("NOOP\r\n")
		c.reply("NOOP", "250")
	}
	if c.err != nil {
		t.Fatalf("%+v: %v", d, c.err)
	}
	c.Close()
	return reply
}

// duplicating is a house that suppresses duplicates, with its mailbox.
func duplicating(t testing.TB, s *site, clock filters.Clock) (*house, *mailbox) {
	box := &mailbox{}
	h := s.open(t, setup{extra: "duplicates: suppress", deliver: box.deliver, clock: clock, rules: `
  - {name: look, when: spf.result == "fail", then: reject, mode: observe}`})
	h.ledger.foreign = true
	return h, box
}

// sent is what a test knows of a delivery.
type sent struct {
	delivery
	id string // of its transaction; empty where the client knows how it came out
}

// same tells whether two deliveries are of one message, and from one place.
func (d delivery) same(other delivery) bool {
	net := func(x delivery) string { return x.client[:strings.LastIndex(x.client, ".")] }
	spf := strings.HasSuffix(d.sender, "@example.org") && d.sender == other.sender // the only domain that passes
	return d.sender == other.sender && d.params == other.params && d.body == other.body &&
		sorted(d.recipients) == sorted(other.recipients) && (net(d) == net(other) || spf)
}

func sorted(list string) string {
	words := strings.Fields(list)
	for i := range words {
		for j := range i {
			if words[i] < words[j] {
				words[i], words[j] = words[j], words[i]
			}
		}
	}
	return strings.Join(words, " ")
}

// TestDuplicates: a message is suppressed exactly if an unconfirmed delivery of the same one, from the same place, is
// known; all else arrives. Held against a model.
func TestDuplicates(t *testing.T) {
	h, box := duplicating(t, newSite(t, filters.SystemClock{}), nil)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		var model []*sent
		for range rapid.IntRange(2, 7).Draw(t, "messages") {
			d := delivery{
				client:     rapid.SampledFrom([]string{"127.0.1.1", "127.0.1.9", "127.0.2.1"}).Draw(t, "client"),
				sender:     rapid.SampledFrom([]string{"a@example.org", "a@other.test", "a@other.test", ""}).Draw(t, "sender"),
				params:     rapid.SampledFrom([]string{"", "", "", " BODY=8BITMIME", " SIZE=99", " RET=HDRS"}).Draw(t, "params"),
				recipients: rapid.SampledFrom([]string{"b@example.com", "b@example.com c@example.com", "c@example.com b@example.com"}).Draw(t, "recipients"),
				body:       fmt.Sprintf("%d %s", run, rapid.SampledFrom([]string{"x", "x", "x", "y"}).Draw(t, "body")),
			}
			confirms := rapid.IntRange(0, 2).Draw(t, "confirms") == 0
			known := d
			known.params = strings.TrimPrefix(d.params, " SIZE=99") // no more than a hint
			var expected []*sent
			for _, s := range model {
				if s.id != "" && s.same(known) {
					expected = append(expected, s)
				}
			}
			suppressed := h.server.Metrics().Suppressed.Load()
			reply := h.sendFrom(t, d, confirms)
			if err := h.waitIdle(); err != nil {
				t.Fatal(err)
			}
			delivered := len(box.take())
			switch {
			case len(expected) > 0:
				if delivered != 0 || h.server.Metrics().Suppressed.Load() != suppressed+1 {
					t.Fatalf("%+v arrives again; %q", d, reply)
				}
				var first *sent
				for _, s := range expected {
					if strings.HasSuffix(reply, " "+s.id) {
						first = s
					}
				}
				if first == nil {
					t.Fatalf("%q names none of %v", reply, expected)
				}
				if confirms {
					first.id = ""
				}
			case delivered != 1:
				t.Fatalf("%+v is stored %d times; %q", d, delivered, reply)
			case !confirms:
				model = append(model, &sent{known, h.ledger.lastID()})
			}
		}
	})
	h.done(t)
}

// TestDuplicateOfOneWhoIsStillThere: the first connection hangs, and the client has long come again.
func TestDuplicateOfOneWhoIsStillThere(t *testing.T) {
	h, box := duplicating(t, newSite(t, filters.SystemClock{}), nil)
	hanging := h.connect("hanging")
	hanging.hello()
	hanging.send("MAIL FROM:<a@other.test>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nz\r\n.\r\n")
	for _, asked := range []string{"MAIL", "RCPT", "DATA", "end of data"} {
		hanging.reply(asked, "250", "354")
	}
	if hanging.err != nil {
		t.Fatal(hanging.err)
	}
	again := delivery{client: "127.0.0.9", sender: "a@other.test", recipients: "b@example.com", body: "z"}
	if reply := h.sendFrom(t, again, false); !strings.Contains(reply, "delivered before as ") {
		t.Errorf("got %q", reply)
	}
	if reply := h.sendFrom(t, again, true); !strings.Contains(reply, "delivered before as ") {
		t.Errorf("got %q", reply)
	}
	hanging.Close() // it would be remembered now, but its client has heard of it meanwhile
	if err := h.waitIdle(); err != nil {
		t.Fatal(err)
	}
	if reply := h.sendFrom(t, again, true); strings.Contains(reply, "before") || len(box.take()) != 2 {
		t.Errorf("one that was confirmed is suppressed: %q", reply)
	}
	h.done(t)
}

// TestDuplicateIsRecorded, is forgotten in time, outlives the process, and is delivered where the store cannot tell.
func TestDuplicateIsRecorded(t *testing.T) {
	t.Parallel()
	clock := &jumpingClock{}
	s := newSite(t, clock)
	h, box := duplicating(t, s, clock)
	d := delivery{client: "127.0.1.1", sender: "a@other.test", recipients: "b@example.com", body: "w"}
	send := func(want bool) {
		t.Helper()
		reply := h.sendFrom(t, d, false)
		if err := h.waitIdle(); err != nil {
			t.Fatal(err)
		}
		if suppressed := strings.Contains(reply, "delivered before as "); suppressed != want || len(box.take()) != map[bool]int{false: 1}[want] {
			t.Errorf("got %q", reply)
		}
	}
	send(false)
	first := h.ledger.lastID()
	send(true)
	if got := h.ledger.lastEnding(); got.Suppressed != first || !got.Ours || got.Reply.Code != 250 || got.Note != "suppressed duplicate of "+first {
		t.Errorf("recorded is %+v", got)
	}
	h.done(t)
	h, box = duplicating(t, s, clock) // a restart
	send(true)
	s.store.fails.Store(true)
	send(false)
	s.store.fails.Store(false)
	s.store.hangs.Store(true)
	send(false)
	s.store.hangs.Store(false)
	if n := h.server.Metrics().StoreErrors.Load(); n != 4 { // two were asked for, and could not be remembered
		t.Errorf("StoreErrors is %d", n)
	}
	send(true)
	clock.jump(49 * time.Hour)
	send(false)
	h.done(t)
}
