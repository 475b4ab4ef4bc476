package milter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/filters/milter/wire"
)

func action(code milter.ActionCode) []byte { return wire.Append[string](nil, byte(code)) }

func text(code milter.ModifyActCode, texts ...string) []byte {
	return wire.AppendTexts(nil, byte(code), texts...)
}

func edit(code milter.ModifyActCode, index uint32, name, value string) []byte {
	e := wire.HeaderEdit{Index: index, Name: name, Value: value}
	return e.AppendTo(nil, code)
}

// TestThePlay: what an MTA would say, in its order, with what stands in it.
func TestThePlay(t *testing.T) {
	s := &script{agree: wire.Negotiation{Protocol: milter.OptHeaderLeadingSpace}}
	f := newFilter(t, s, nil)
	v := viewOf(sample, "joe@example.org", "amy@example.org")
	v.Greeting.TLS = &filters.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", PeerSubject: "CN=mail"}
	v.Greeting.AuthUser = "joe"
	v.Facts = filtertest.Facts{"rdns.confirmed": true, "rdns.name": "mail.example.com"}
	facts := observe(t, f, v)
	want := []string{
		"O",
		"D Cj|mx.example.org|v|Gatepost|_|mail.example.com [192.0.2.1]|{daemon_name}|mx.example.org|{daemon_addr}|192.0.2.25|{if_addr}|192.0.2.25|{client_addr}|192.0.2.1|{client_name}|mail.example.com|{client_ptr}|mail.example.com|{client_port}|40000",
		"C mail.example.com|4\x9c\x40192.0.2.1",
		"D H{tls_version}|TLSv1.3|{cipher}|TLS_AES_128_GCM_SHA256|{cert_subject}|CN=mail|{verify}|OK",
		"H mail.example.com",
		"D Mi|t1|{mail_addr}|sender@example.com|{mail_host}|example.com|{auth_authen}|joe",
		"M <sender@example.com>|SIZE=100|SMTPUTF8",
		"D Ri|t1|{rcpt_addr}|joe@example.org|{rcpt_host}|example.org", "R <joe@example.org>",
		"D Ri|t1|{rcpt_addr}|amy@example.org|{rcpt_host}|example.org", "R <amy@example.org>",
		"D Ti|t1", "T ",
		"L Received| by a", "L Subject|  two spaces\n\tfolded", "L X|none", "N ",
		"B body\r\n.dot\r\n", "D Ei|t1", "E ",
	}
	if got := s.said(0); !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if facts.Action != "continue" || facts.Stage != "end" || facts.Rejects || facts.Changes() != nil {
		t.Errorf("%+v", facts)
	}
}

// TestWhatWasAgreed: nothing is sent that the milter does not want, or does not know.
func TestWhatWasAgreed(t *testing.T) {
	for name, test := range map[string]struct {
		agree wire.Negotiation
		want  string
	}{
		"version 2":        {wire.Negotiation{Version: 2}, "OCHMRLLLNBE"},
		"version 6":        {wire.Negotiation{Version: 6}, "OCHMRTLLLNBE"},
		"no connection":    {wire.Negotiation{Protocol: milter.OptNoConnect | milter.OptNoHelo}, "OMRTLLLNBE"},
		"no envelope":      {wire.Negotiation{Protocol: milter.OptNoMailFrom | milter.OptNoRcptTo | milter.OptNoData}, "OCHLLLNBE"},
		"no message":       {wire.Negotiation{Protocol: milter.OptNoHeaders | milter.OptNoEOH | milter.OptNoBody}, "OCHMRTE"},
		"silent as rspamd": {wire.Negotiation{Actions: 0x1ff, Protocol: 0xff080}, "OCHMRTLLLNBE"},
	} {
		s := &script{agree: test.agree}
		f := newFilter(t, s, nil)
		observe(t, f, viewOf(sample))
		if got := s.verbs(0); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	s := &script{}
	observe(t, newFilter(t, s, nil), viewOf(sample))
	if said := s.said(0); !slices.Contains(said, "L Subject| two spaces\n\tfolded") {
		t.Errorf("without the leading blank: %q", said)
	}
}

func TestNegotiationsThatFail(t *testing.T) {
	for want, frame := range map[string][]byte{
		"version 1":         (&wire.Negotiation{Version: 1}).AppendTo(nil),
		"version 7":         (&wire.Negotiation{Version: 7}).AppendTo(nil),
		"do what was not":   (&wire.Negotiation{Version: 6, Actions: 1 << 20}).AppendTo(nil),
		"protocol that was": (&wire.Negotiation{Version: 6, Protocol: 1 << 28}).AppendTo(nil),
		"malformed":         wire.Append(nil, 'O', "abc"),
		`by 'c'`:            cont,
		"length 0":          {0, 0, 0, 0, 0},
		"more than":         {0x7f, 0, 0, 0, 'O'},
	} {
		s := &script{answer: map[byte][]byte{'O': frame}}
		_, err := newFilter(t, s, nil).Message(t.Context(), viewOf(sample))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	reply := func(code int, lines ...string) []byte { return wire.AppendReply(nil, code, lines) }
	for name, test := range map[string]struct {
		command byte
		frame   []byte
		want    string // action stage reply
	}{
		"accept at the end":           {'E', action(milter.ActAccept), "accept end "},
		"accept a client":             {'C', action(milter.ActAccept), "accept connect "},
		"reject at the end":           {'E', action(milter.ActReject), "reject end "},
		"reject at HELO":              {'H', action(milter.ActReject), "reject helo "},
		"own words at MAIL":           {'M', reply(550, "5.7.23 SPF fail"), "reject mail 550 5.7.23 SPF fail"},
		"discard at a header":         {'L', action(milter.ActDiscard), "discard header "},
		"defer at a body":             {'B', action(milter.ActTempFail), "defer body "},
		"shutdown":                    {'T', action(wire.ActShutdown), "defer data "},
		"connection failure":          {'C', action(wire.ActConnFail), "defer connect "},
		"several lines, 100%":         {'E', reply(451, "4.3.2 a", "4.3.2 b 100%"), "defer end 451 4.3.2 a\nb 100%"},
		"five lines":                  {'E', reply(550, "5.7.1 a", "5.7.1 b", "", "c", "5.7.1 100% d"), "reject end 550 5.7.1 a\nb\n\nc\n100% d"},
		"no enhanced code":            {'E', reply(554, "No"), "reject end 554 5.7.1 No"},
		"another class's code":        {'E', reply(554, "4.7.1 No"), "reject end 554 5.7.1 No"},
		"no reply at all":             {'E', wire.Append(nil, 'y', "250 2.0.0 ok\x00"), "defer end "},
		"control characters":          {'E', reply(550, "5.7.1 \x1b[31m\tx"), "reject end 550 5.7.1 ?[31m?x"},
		"the only recipient":          {'R', reply(550, "5.1.1 unknown"), "reject rcpt 550 5.1.1 unknown"},
		"progress, then reject":       {'E', append(action(wire.ActProgress), action(milter.ActReject)...), "reject end "},
		"skip where it means nothing": {'H', action(milter.ActSkip), "continue end "},
	} {
		s := &script{answer: map[byte][]byte{test.command: test.frame}}
		facts := observe(t, newFilter(t, s, nil), viewOf(sample))
		reply := ""
		if facts.Reply != nil {
			reply = *facts.Reply
		}
		if got := facts.Action + " " + facts.Stage + " " + reply; got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if facts.Rejects != (facts.Action == "reject") || facts.Defers != (facts.Action == "defer") || facts.Discards != (facts.Action == "discard") {
			t.Errorf("%s: %+v", name, facts)
		}
	}
}

func TestARefusedRecipientLeavesTheOthers(t *testing.T) {
	s := &script{act: func(_ net.Conn, code byte, n int) ([]byte, bool) {
		if code == 'R' && n != 2 {
			return action(milter.ActReject), false
		}
		return nil, false
	}}
	facts := observe(t, newFilter(t, s, nil), viewOf(sample, "a@example.org", "b@example.org", "c@example.org"))
	if facts.Action != "continue" || !slices.Equal(facts.RefusedRecipients, []string{"a@example.org", "c@example.org"}) {
		t.Errorf("%+v", facts)
	}
}

// TestSilentAfterARefusal: libmilter drops what comes behind a refusal without a word.
func TestSilentAfterARefusal(t *testing.T) {
	refused := false
	s := &script{act: func(_ net.Conn, code byte, n int) ([]byte, bool) {
		if code == 'M' {
			refused = true
			return action(milter.ActReject), false
		}
		if refused && code != 'D' {
			return []byte{}, code == 'Q'
		}
		return nil, false
	}}
	f := newFilter(t, s, nil)
	if facts := observe(t, f, viewOf(sample)); facts.Stage != "mail" {
		t.Errorf("%+v", facts)
	}
	if len(f.pool.idle) > 0 {
		t.Error("the connection is kept")
	}
}

func TestTheBodyInChunks(t *testing.T) {
	body := strings.Repeat("0123456789abcde\r\n", 10000)
	s := &script{}
	observe(t, newFilter(t, s, nil), viewOf("A: b\r\n\r\n"+body))
	var got strings.Builder
	for _, c := range s.said(0) {
		if c[0] == 'B' {
			if len(c)-2 > maxChunk {
				t.Errorf("a chunk of %d bytes", len(c)-2)
			}
			got.WriteString(c[2:])
		}
	}
	if got.String() != body {
		t.Error("the body is another")
	}
	s = &script{answer: map[byte][]byte{'B': action(milter.ActSkip)}}
	observe(t, newFilter(t, s, nil), viewOf("A: b\r\n\r\n"+body))
	if got := s.verbs(0); got != "OCHMRTLNBE" {
		t.Errorf("after SKIP: %s", got)
	}
	for _, message := range []string{"A: b\r\n", "A: b\r\n\r\n", ""} {
		s = &script{}
		observe(t, newFilter(t, s, nil), viewOf(message))
		if got := strings.TrimLeft(s.verbs(0), "OCHMRTL"); got != "NE" {
			t.Errorf("%q: %s", message, got)
		}
	}
}

// TestItBeginsEarly: the milter hears of the client and the header while the body is still to come.
func TestItBeginsEarly(t *testing.T) {
	seen := make(chan struct{})
	s := &script{act: func(_ net.Conn, code byte, n int) ([]byte, bool) {
		if code == 'N' {
			close(seen)
		}
		return nil, false
	}}
	f := newFilter(t, s, nil)
	v := viewOf("")
	v.Message = filters.NewMessage(1<<20, nil)
	done := make(chan *Facts)
	go func() {
		facts, err := f.Message(t.Context(), v)
		if err != nil {
			t.Error(err)
		}
		done <- facts
	}()
	v.Message.Write([]byte("A: b\r\n\r\nbo"))
	<-seen
	v.Message.Write([]byte("dy\r\n"))
	v.Message.Complete()
	<-done
	if said := s.said(0); !slices.Contains(said, "B body\r\n") {
		t.Errorf("%q", said)
	}
}

func TestEdits(t *testing.T) {
	frames := slices.Concat(
		text(milter.ActAddHeader, "X-Added", "1"),
		edit(milter.ActInsertHeader, 1, "X-Top", "a\n b"),
		edit(milter.ActChangeHeader, 1, "Subject", "new\r\nX-Injected: yes\n\n."),
		edit(milter.ActChangeHeader, 1, "x", ""),
		edit(milter.ActInsertHeader, 0, "Bad Name", "x"),
		edit(milter.ActInsertHeader, 0, "X-Long", strings.Repeat("x", 1000)),
		text(milter.ActAddRcpt, "<eve@example.org>"),
		text(milter.ActDelRcpt, "<joe@example.org>"),
		text(milter.ActChangeFrom, "<>"),
		wire.Append(nil, byte(milter.ActReplBody), "new body"),
		text(milter.ActQuarantine, "virus\r\nfound"),
		cont)
	s := &script{answer: map[byte][]byte{'E': frames}}
	facts := observe(t, newFilter(t, s, nil), viewOf(sample))
	if want := []string{"add X-Added: 1", "insert 1 X-Top: a b", "change 1 Subject: newX-Injected: yes.", "delete 1 x"}; !slices.Equal(facts.Edits, want) {
		t.Errorf("edits %q", facts.Edits)
	}
	if want := []string{"X-Added: 1", "X-Top: a b", "Subject: newX-Injected: yes."}; !slices.Equal(facts.Headers, want) {
		t.Errorf("headers %q", facts.Headers)
	}
	if len(facts.RefusedEdits) != 6 || facts.RefusedEdits[0] != "insert 0 Bad Name: x" || facts.RefusedEdits[5] != "body" {
		t.Errorf("refused %q", facts.RefusedEdits)
	}
	if facts.Quarantine == nil || *facts.Quarantine != "virus??found" {
		t.Errorf("quarantine %v", facts.Quarantine)
	}
	var raw []string
	for _, e := range facts.Changes().Fields {
		raw = append(raw, string(e.Raw))
	}
	if want := []string{"X-Added: 1\r\n", "X-Top: a\r\n b\r\n", "Subject: new\r\n\tX-Injected: yes\r\n\t.\r\n", ""}; !slices.Equal(raw, want) {
		t.Errorf("fields %q", raw)
	}
	s = &script{agree: wire.Negotiation{Protocol: milter.OptHeaderLeadingSpace}, answer: map[byte][]byte{'E': append(text(milter.ActAddHeader, "A", " b"), cont...)}}
	if facts := observe(t, newFilter(t, s, nil), viewOf(sample)); string(facts.Changes().Fields[0].Raw) != "A: b\r\n" {
		t.Errorf("%q", facts.Changes().Fields[0].Raw)
	}
	s = &script{answer: map[byte][]byte{'E': frames}}
	facts = observe(t, newFilter(t, s, func(set *setting) { set.config.Edits = nil }), viewOf(sample))
	if !facts.Changes().Empty() || len(facts.Edits) > 0 || len(facts.RefusedEdits) != 10 {
		t.Errorf("nothing is allowed: %+v", facts)
	}
}

func TestANewBody(t *testing.T) {
	frames := slices.Concat(wire.Append(nil, 'b', "one\r\ntwo\n.\nthr"), wire.Append(nil, 'b', "ee\rx\x00"), cont)
	s := &script{answer: map[byte][]byte{'E': frames}}
	f := newFilter(t, s, func(set *setting) { set.config.Edits = []string{"body"} })
	facts := observe(t, f, viewOf(sample))
	if got := string(facts.Changes().Body); got != "one\r\ntwo\r\n.\r\nthree x \r\n" {
		t.Errorf("%q", got)
	}
	second := &script{}
	v := viewOf(sample)
	v.Facts = filtertest.Facts{"milter.first": facts.Changes()}
	after := newFilter(t, second, func(set *setting) { set.config.After = "first" })
	if observe(t, after, v); !slices.Contains(second.said(0), "B "+string(facts.Changes().Body)) {
		t.Errorf("the next one sees %q", second.said(0))
	}
}

func TestWhatTheOneBeforeHasAdded(t *testing.T) {
	first := &filters.Changes{Fields: []filters.FieldEdit{
		{Kind: filters.InsertField, Index: 1, Name: "A-R", Raw: []byte("A-R: mx; dkim=pass\r\n")},
		{Kind: filters.DeleteField, Index: 1, Name: "X"}}}
	s := &script{agree: wire.Negotiation{Protocol: milter.OptHeaderLeadingSpace}}
	f := newFilter(t, s, func(set *setting) {
		set.config.After = "first"
		set.env.Drops = func(f *filters.Field) bool { return f.Name == "Received" }
	})
	v := viewOf(sample)
	v.Facts = filtertest.Facts{"milter.first": first}
	facts := observe(t, f, v)
	var fields []string
	for _, c := range s.said(0) {
		if c[0] == 'L' {
			fields = append(fields, c[2:])
		}
	}
	if want := []string{"A-R| mx; dkim=pass", "Subject|  two spaces\n\tfolded"}; !slices.Equal(fields, want) {
		t.Errorf("%q", fields)
	}
	if facts.Changes() == nil || facts.Changes().After != first {
		t.Error("what comes after loses what came before")
	}
}

// TestConnectionsAreKept: for the next message of the same client, until it leaves; not for another client, nor behind a
// refusal.
func TestConnectionsAreKept(t *testing.T) {
	s := &script{}
	f := newFilter(t, s, nil)
	v := viewOf(sample)
	observe(t, f, v)
	v.Message = complete(sample)
	observe(t, f, v)
	observe(t, f, viewOf(sample))
	if got := s.verbs(0); s.connections() != 2 || got != "OCHMRTLLLNBE"+"MRTLLLNBE" {
		t.Errorf("%d connections: %s", s.connections(), got)
	}
	f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v})
	if len(f.pool.idle) != 2 {
		t.Errorf("%d connections are kept", len(f.pool.idle))
	}
	f.Concluded(&filters.Outcome{Kind: filters.SessionOutcome, View: v})
	if len(f.pool.idle) != 1 {
		t.Errorf("%d connections are kept after the client left", len(f.pool.idle))
	}
	s = &script{answer: map[byte][]byte{'E': action(milter.ActReject)}}
	f = newFilter(t, s, nil)
	observe(t, f, v)
	observe(t, f, v)
	if s.connections() != 2 {
		t.Errorf("after a refusal: %d connections", s.connections())
	}
}

// TestAConnectionThatWasClosed: a milter that was restarted has closed what we kept.
func TestAConnectionThatWasClosed(t *testing.T) {
	s := &script{act: func(conn net.Conn, code byte, n int) ([]byte, bool) {
		return nil, code == 'M' && n == 2
	}}
	f := newFilter(t, s, nil)
	v := viewOf(sample)
	observe(t, f, v)
	if facts := observe(t, f, v); facts.Action != "continue" || s.connections() != 2 {
		t.Errorf("%+v, %d connections", facts, s.connections())
	}
}

func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		act  func(net.Conn, byte, int) ([]byte, bool)
		want string
	}{
		"silent": {func(_ net.Conn, code byte, _ int) ([]byte, bool) { return []byte{}, code == 'Q' }, "timeout"},
		"closes": {func(_ net.Conn, code byte, _ int) ([]byte, bool) { return nil, code == 'R' }, "EOF"},
		"torn":   {func(_ net.Conn, code byte, _ int) ([]byte, bool) { return []byte{0, 0}, true }, "EOF"},
		"edits too early": {func(_ net.Conn, code byte, _ int) ([]byte, bool) {
			if code == 'M' {
				return text('h', "A", "b"), false
			}
			return nil, false
		}, "at mail"},
		"what nobody knows": {func(_ net.Conn, code byte, _ int) ([]byte, bool) {
			if code == 'E' {
				return action('Z'), false
			}
			return nil, false
		}, "'Z' at the end"},
		"a field without name": {func(_ net.Conn, code byte, _ int) ([]byte, bool) {
			if code == 'E' {
				return text('h', "", "b"), false
			}
			return nil, false
		}, "without a name"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFilter(t, &script{act: test.act}, nil)
			_, err := f.Message(t.Context(), viewOf(sample))
			var theirs *fault
			if !errors.As(err, &theirs) || !strings.Contains(err.Error(), test.want) && !strings.Contains(err.Error(), "ended within") && !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestProgressHasAnEnd: a milter that only ever asks for time gets it until nobody waits any more.
func TestProgressHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{act: func(conn net.Conn, code byte, _ int) ([]byte, bool) {
			if code != 'E' {
				return nil, false
			}
			for {
				if _, err := conn.Write(action(wire.ActProgress)); err != nil {
					return []byte{}, true
				}
				time.Sleep(time.Second)
			}
		}}
		f := newFilter(t, s, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // it may be silent for 5 s
		defer cancel()
		begun := time.Now()
		if _, err := f.Message(ctx, viewOf(sample)); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 30*time.Second+quitTime {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		time.Sleep(time.Second) // until the milter has seen it
	})
}

func TestAFloodHasAnEnd(t *testing.T) {
	s := &script{act: func(conn net.Conn, code byte, _ int) ([]byte, bool) {
		if code != 'E' {
			return nil, false
		}
		for frames := slices.Repeat(action(wire.ActProgress), 1000); ; {
			if _, err := conn.Write(frames); err != nil {
				return []byte{}, true
			}
		}
	}}
	if _, err := newFilter(t, s, nil).Message(t.Context(), viewOf(sample)); err == nil || !strings.Contains(err.Error(), "says too much") {
		t.Error(err)
	}
}

// refusing is a milter that is not there, until it is.
type refusing struct {
	to    filters.Dialer
	calls int
}

func (r *refusing) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	r.calls++
	if r.to != nil {
		return r.to.Dial(ctx, network, address)
	}
	return nil, errors.New("connection refused")
}

func TestADeadMilterIsLeftAlone(t *testing.T) {
	clock := filtertest.NewClock()
	dead := &refusing{}
	f := newFilter(t, dead, func(set *setting) { set.config.Failures, set.env.Clock = 3, clock })
	for range 10 {
		if _, err := f.Message(t.Context(), viewOf(sample)); err == nil {
			t.Fatal("no error")
		}
	}
	if dead.calls != 3 {
		t.Errorf("asked %d times", dead.calls)
	}
	heir := newFilter(t, dead, func(set *setting) { set.config.Failures, set.env.Clock = 3, clock })
	heir.Adopt(f)
	if _, err := heir.Message(t.Context(), viewOf(sample)); err == nil || dead.calls != 3 {
		t.Errorf("after a reload: %v, asked %d times", err, dead.calls)
	}
	clock.Advance(31 * time.Second)
	f.Message(t.Context(), viewOf(sample))
	f.Message(t.Context(), viewOf(sample))
	if dead.calls != 4 {
		t.Errorf("after the pause asked %d times", dead.calls)
	}
	clock.Advance(31 * time.Second)
	dead.to = &script{}
	for range 3 {
		observe(t, f, viewOf(sample))
	}
}

// TestALeavingClientIsNotTheMiltersFault.
func TestALeavingClientIsNotTheMiltersFault(t *testing.T) {
	f := newFilter(t, &script{}, func(set *setting) { set.config.Failures = 1 })
	v := viewOf("")
	v.Message = filters.NewMessage(1<<20, nil)
	v.Message.Write([]byte("A: b\r\n\r\n"))
	v.Message.Abort(errors.New("the client left"))
	if _, err := f.Message(t.Context(), v); err == nil || err.Error() != "the client left" {
		t.Error(err)
	}
	observe(t, f, viewOf(sample))
}

// TestSlowClientsLeaveRoom: clients that take their time with a message do not take all connections.
func TestSlowClientsLeaveRoom(t *testing.T) {
	s := &script{}
	f := newFilter(t, s, func(set *setting) { set.config.Connections = 4 })
	slow := filters.NewMessage(1<<20, nil)
	done := make(chan error)
	for range 8 {
		go func() {
			v := viewOf("")
			v.Message = slow
			_, err := f.Message(t.Context(), v)
			done <- err
		}()
	}
	observe(t, f, viewOf(sample))
	slow.Write([]byte(sample))
	slow.Complete()
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// countedDialer counts what a connection is really written.
type countedDialer struct {
	filters.Dialer
	writes atomic.Int64
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (d *countedDialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.Dial(ctx, network, address)
	return &countedConn{conn, &d.writes}, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestSocketWrites: the negotiation, the envelope with all before it, the header, and the body with its end are one write
// each, whatever is answered; a body of several chunks is one more for each; to hand a connection on costs one.
func TestSocketWrites(t *testing.T) {
	large := "A: b\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 10000) // 3 chunks
	fields := strings.Repeat("X-Field: value\r\n", 50) + "\r\nbody\r\n"
	for name, agree := range map[string]wire.Negotiation{"all answered": {}, "nothing answered": {Protocol: 0xff080}, "with macros of its own": {
		Actions: milter.OptSetSymList, Macros: []wire.MacroRequest{{Stage: milter.StageEOH, Names: []string{"i"}}}}} {
		d := &countedDialer{Dialer: &script{agree: agree}}
		f := newFilter(t, d, always)
		v := viewOf(fields, "a@example.org", "b@example.org", "c@example.org")
		for _, step := range []struct {
			text string
			want int64
		}{{fields, 1 + 3}, {fields, 3}, {large, 3 + 2}} {
			before := d.writes.Load()
			v.Message = complete(step.text)
			observe(t, f, v)
			if got := d.writes.Load() - before; got != step.want {
				t.Errorf("%s: %d writes, want %d", name, got, step.want)
			}
		}
		leave(f, v)
		before := d.writes.Load()
		observe(t, f, viewOf(fields))
		if got := d.writes.Load() - before; got != 4 {
			t.Errorf("%s: %d writes for another client", name, got)
		}
	}
}

func TestManyFieldsDoNotBlock(t *testing.T) {
	s := &script{}
	f := newFilter(t, s, nil)
	var message strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&message, "X-%d: %s\r\n", i, strings.Repeat("x", 100))
	}
	observe(t, f, viewOf(message.String()+"\r\n"))
	if got := strings.Count(s.verbs(0), "L"); got != 2000 {
		t.Errorf("%d fields", got)
	}
}

func TestConfig(t *testing.T) {
	for text, want := range map[string]string{
		"inet:127.0.0.1:11332": "inet:127.0.0.1:11332", "inet:11332@127.0.0.1": "inet:127.0.0.1:11332", "inet6:[::1]:25": "inet:[::1]:25",
		"inet6:25@[::1]": "inet:[::1]:25", "unix:/run/x": "unix:/run/x", "local:/run/x": "unix:/run/x", "inet:mail.example.org:1": "inet:mail.example.org:1",
		"unix:run/x": "", "inet:127.0.0.1": "", "inet:127.0.0.1:0": "", "inet:127.0.0.1:99999": "", "127.0.0.1:25": "", "": "", "inet::25": "",
	} {
		var a Address
		if err := a.UnmarshalText([]byte(text)); (err == nil) != (want != "") || a.String() != want {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
	good := func() Config { c := Defaults(); c.Address = Address{"unix", "/x"}; return c }
	for key, change := range map[string]func(*Config){
		"address": func(c *Config) { c.Address = Address{} }, "edits": func(c *Config) { c.Edits = []string{"envelope"} }, "silence": func(c *Config) { c.Silence = 0 },
		"connections": func(c *Config) { c.Connections = 0 }, "failures": func(c *Config) { c.Failures = 0 }, "pause": func(c *Config) { c.Pause = -1 },
		"daemon_name": func(c *Config) { c.DaemonName = "a b" }, "mode": func(c *Config) { c.Mode = "on" }, "reuse": func(c *Config) { c.Reuse = "" },
	} {
		c := good()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
	if got := reflect.TypeFor[Facts]().NumField(); got != 13 {
		t.Errorf("%d facts: those of TestVerdicts and TestEdits are all", got)
	}
}

// FuzzReplies: whatever a milter says, the message comes through or fails, within bounds, and nothing that it says is more
// than a field, a body or a reply.
func FuzzReplies(f *testing.F) {
	f.Add(slices.Concat((&wire.Negotiation{Version: 6}).AppendTo(nil), cont, cont, cont, cont, cont, cont, cont, cont, cont, cont,
		text('h', "A", "b\r\n.\r\n"), edit('i', 1, "B", "c"), edit('m', 1, "X", ""), text('q', "x"), wire.Append(nil, 'b', "x\n.\n"), wire.AppendReply(nil, 550, []string{"5.7.1 a", "b"})))
	f.Add(slices.Concat((&wire.Negotiation{Version: 6, Protocol: 0xff080}).AppendTo(nil), text('+', "<a@b>"), action('r')))
	f.Add(slices.Concat((&wire.Negotiation{Version: 6, Protocol: 0xff080}).AppendTo(nil), text('2', "<a@b>", "NOTIFY=NEVER"), text('-', "joe@example.org"), text('e', "<>"), action('a')))
	f.Fuzz(func(t *testing.T, said []byte) {
		dial := dialerFunc(func() net.Conn {
			ours, theirs := net.Pipe()
			go func() { theirs.Write(said); theirs.Close() }()
			return &deaf{ours}
		})
		filter := newFilter(t, dial, func(set *setting) { set.config.Edits = []string{"headers", "body", "recipients", "sender"} })
		facts, err := filter.Message(t.Context(), viewOf(sample))
		if err != nil {
			return
		}
		if c := facts.Changes(); c != nil {
			for _, e := range c.Fields {
				if e.Kind != filters.DeleteField {
					oneField(t, e)
				}
			}
			for _, e := range c.Envelope {
				if strings.ContainsAny(e.Address, " <>\r\n\x00") || e.Address == "" && e.Kind != filters.ChangeSender {
					t.Errorf("address %q", e.Address)
				}
			}
			if body := string(c.Body); strings.Contains(strings.ReplaceAll(body, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(body, "\r\n", ""), "\r") {
				t.Errorf("body %q", body)
			}
		}
		if facts.Reply != nil && (strings.ContainsAny(*facts.Reply, "\r\x00\x1b") || strings.Count(*facts.Reply, "\n") >= maxReplyLines) {
			t.Errorf("reply %q", *facts.Reply)
		}
	})
}

func oneField(t *testing.T, e filters.FieldEdit) {
	m := complete(string(e.Raw) + "\r\n")
	h, err := m.Header(t.Context())
	if err != nil || len(h.Fields) != 1 || h.Fields[0].Name != e.Name || h.Size != len(e.Raw) {
		t.Errorf("%q is not one field %q: %+v, %v", e.Raw, e.Name, h, err)
	}
}

type dialerFunc func() net.Conn

func (d dialerFunc) Dial(context.Context, string, string) (net.Conn, error) { return d(), nil }

// deaf takes whatever is written.
type deaf struct{ net.Conn }

func (deaf) Write(p []byte) (int, error) { return len(p), nil }
