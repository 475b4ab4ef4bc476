package telemetry

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

type spfFacts struct {
	Result      string   `fact:"result"`
	Explanation string   `fact:"explanation"`
	Names       []string `fact:"names"`
	Lookups     int      `fact:"lookups"`
	Score       float64  `fact:"score"`
}

// transaction is a record of a refused message.
func transaction(t *testing.T) *policy.Record {
	t.Helper()
	schema, err := rules.NewSchema(filters.Stages[:], int(filters.AtRcpt), []rules.Group{{Name: "spf", Type: reflect.TypeFor[spfFacts](), Stage: int(filters.AtMail)}})
	if err != nil {
		t.Fatal(err)
	}
	facts := schema.NewFacts()
	facts.Set(0, &spfFacts{"fail", "see dmarc.result=pass \"here\"", []string{"a.test", "b c"}, 2, 1.5})
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	return &policy.Record{
		ID: "S1.1", Kind: policy.TransactionRecord, Start: start, End: start.Add(1500 * time.Millisecond),
		Session:    &filters.Session{ID: "S1", Client: filters.ClientAt(netip.MustParseAddrPort("192.0.2.7:25000"))},
		Greeting:   &filters.Greeting{Name: "mail.example.net"},
		Envelope:   &filters.Envelope{ID: "S1.1", ReversePath: "a@example.net"},
		Recipients: []policy.RecipientRecord{{Address: "alice@example.org", Reply: rules.Reply{Code: 250}}, {Address: "nobody@example.org", Reply: rules.Reply{Code: 550, Enhanced: "5.1.1", Text: "unknown"}}},
		Facts:      facts,
		Filters:    []policy.FilterRecord{{Name: "spf", Status: "ok"}, {Name: "dnsbl", Status: "timeout", Error: "not known in time"}},
		Matched: []policy.Match{
			{Rule: &rules.Rule{Name: "listed", Pos: rules.Pos{File: "g.yaml", Line: 7}}},
			{Rule: &rules.Rule{Name: "listed", Pos: rules.Pos{File: "g.yaml", Line: 7}}, Recipient: "other"},
			{Rule: &rules.Rule{Name: "forged", Pos: rules.Pos{File: "g.yaml", Line: 9}}, Observed: true},
		},
		Ending: policy.Ending{Reply: rules.Reply{Code: 554, Enhanced: "5.7.1", Text: "listed\nbye"}, Ours: true, Size: 400, Note: "QUIT"},
	}
}

func TestALineOfText(t *testing.T) {
	var b bytes.Buffer
	Recorder{NewLogger(Default(), &b)}.Record(transaction(t))
	_, line, _ := strings.Cut(b.String(), " ") // behind the time
	want := `level=INFO msg=transaction id=S1.1 client=192.0.2.7 helo=mail.example.net from=<a@example.net> ` +
		`to="<alice@example.org> <nobody@example.org>=550" verdict=reject rule=listed@g.yaml:7 observed=forged@g.yaml:9 ` +
		`reply="554 5.7.1 listed\nbye" size=400 note=QUIT took=1.5s ` +
		`facts="spf.result=fail spf.explanation=\"see dmarc.result=pass \\\"here\\\"\" spf.names=a.test,\"b c\" spf.lookups=2 spf.score=1.5" ` +
		`failed="dnsbl: not known in time"` + "\n"
	if line != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}
}

// A line is the same, byte for byte, whether it goes through slog or not, in either format.
func TestALineIsThatOfSlog(t *testing.T) {
	texts := rapid.OneOf(rapid.StringMatching(`[a-z.@]{0,12}`), rapid.StringMatching(`[ -~]{0,12}`), rapid.String())
	base := transaction(t)
	rapid.Check(t, func(t *rapid.T) {
		rec := *base
		rec.ID, rec.End = texts.Draw(t, "id"), rec.Start.Add(time.Duration(rapid.Int64Range(0, 3e9).Draw(t, "took")))
		rec.Greeting = &filters.Greeting{Name: texts.Draw(t, "helo")}
		rec.Envelope = &filters.Envelope{ReversePath: texts.Draw(t, "from")}
		rec.Recipients = []policy.RecipientRecord{{Address: texts.Draw(t, "to"), Reply: rules.Reply{Code: 250}}}
		rec.Matched = rec.Matched[:rapid.IntRange(0, 3).Draw(t, "matches")]
		rec.Ending = policy.Ending{Reply: rules.Reply{Code: 250, Enhanced: "2.0.0", Text: texts.Draw(t, "reply")}, Note: texts.Draw(t, "note"), Size: 7}
		for _, format := range []string{"text", "json"} {
			var got, want bytes.Buffer
			Recorder{NewLogger(Config{Format: format}, &got)}.Record(&rec)
			handler := slog.Handler(slog.NewTextHandler(escaper{&want}, nil))
			if format == "json" {
				handler = slog.NewJSONHandler(escaper{&want}, nil)
			}
			Recorder{slog.New(handler)}.Record(&rec)
			_, ours, _ := strings.Cut(got.String(), "level") // behind the time
			if _, theirs, _ := strings.Cut(want.String(), "level"); ours != theirs {
				t.Fatalf("got  %q\nwant %q", ours, theirs)
			}
		}
	})
}

func TestALineOfJSON(t *testing.T) {
	var b bytes.Buffer
	Recorder{NewLogger(Config{Format: "json"}, &b)}.Record(transaction(t))
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["verdict"] != "reject" || line["reply"] != "554 5.7.1 listed\nbye" {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestSessionsThatSayNothingAreForDebuggingOnly(t *testing.T) {
	quiet := transaction(t)
	quiet.Kind, quiet.Envelope, quiet.Recipients, quiet.Ending = policy.SessionRecord, nil, nil, policy.Ending{}
	for level, lines := range map[slog.Level]int{slog.LevelDebug: 1, slog.LevelInfo: 0} {
		var b bytes.Buffer
		Recorder{NewLogger(Config{Level: Level(level)}, &b)}.Record(quiet)
		if got := strings.Count(b.String(), "\n"); got != lines {
			t.Errorf("%v: %d lines", level, got)
		}
	}
}

func TestASessionThatARuleRefusedIsTold(t *testing.T) {
	r := transaction(t)
	r.Kind, r.Envelope, r.Recipients, r.Ending = policy.SessionRecord, nil, nil, policy.Ending{Note: "closed"}
	r.Refused = &policy.Decision{Action: rules.Defer, Reply: rules.Reply{Code: 421, Enhanced: "4.7.0", Text: "Too many connections"}}
	var b bytes.Buffer
	Recorder{NewLogger(Default(), &b)}.Record(r)
	if line := b.String(); !strings.Contains(line, "msg=session") || !strings.Contains(line, "verdict=defer") || !strings.Contains(line, `reply="421 4.7.0 Too many`) {
		t.Errorf("%q", line)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		want       string
		ending     int
		recipients []int
	}{
		{"accept", 250, []int{250}}, {"reject", 554, []int{250}}, {"defer", 451, []int{250}},
		{"reject", 0, []int{550}}, {"defer", 0, []int{451, 450}}, {"abandon", 0, []int{250}}, {"abandon", 0, nil},
	} {
		r := &policy.Record{Ending: policy.Ending{Reply: rules.Reply{Code: c.ending}}}
		for _, code := range c.recipients {
			r.Recipients = append(r.Recipients, policy.RecipientRecord{Reply: rules.Reply{Code: code}})
		}
		if got := VerdictOf(r).String(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestAConnectionThatARuleClosedIsDropped(t *testing.T) {
	refused := &policy.Record{Refused: &policy.Decision{Action: rules.Drop}}
	atRcpt := &policy.Record{Recipients: []policy.RecipientRecord{{Reply: rules.Reply{Code: 250}}, {Reply: rules.Reply{Code: 550}}, {Action: rules.Drop}}}
	for _, r := range []*policy.Record{refused, atRcpt} {
		if got := VerdictOf(r).String(); got != "drop" {
			t.Error(got)
		}
	}
}

func TestA250OfOursIsNoAcceptance(t *testing.T) {
	for action, want := range map[rules.Action]string{rules.Discard: "discard", rules.Quarantine: "quarantine"} {
		r := &policy.Record{Ending: policy.Ending{Reply: rules.Reply{Code: 250}, Ours: true}}
		r.Matched = []policy.Match{{Rule: &rules.Rule{Action: rules.Score}}, {Rule: &rules.Rule{Action: action}}}
		if got := VerdictOf(r).String(); got != want {
			t.Errorf("%s: %s", want, got)
		}
	}
}

func TestADuplicateIsNamed(t *testing.T) {
	r := &policy.Record{Ending: policy.Ending{Reply: rules.Reply{Code: 250}, Ours: true, Suppressed: "S1.1"}}
	if got := VerdictOf(r).String(); got != "duplicate" {
		t.Error(got)
	}
}

func TestManyRecipientsAreCut(t *testing.T) {
	all := make([]policy.RecipientRecord, 25)
	for i := range all {
		all[i] = policy.RecipientRecord{Address: "a@example.org", Reply: rules.Reply{Code: 250}}
	}
	if got := string(appendRecipients(nil, all)); strings.Count(got, "<") != maxRecipientsLogged || !strings.HasSuffix(got, " and 15 more") {
		t.Error(got)
	}
}

func TestLevelsAreWrittenAsTheyAreRead(t *testing.T) {
	for _, text := range []string{"debug", "info", "warn", "error"} {
		var l Level
		if err := l.UnmarshalText([]byte(strings.ToUpper(text))); err != nil {
			t.Fatal(err)
		}
		if got, _ := l.MarshalText(); string(got) != text {
			t.Errorf("%s is written %s", text, got)
		}
	}
	var l Level
	if err := l.UnmarshalText([]byte("loud")); err == nil {
		t.Error("loud is a level")
	}
}

// accepted is a record of a message that was taken.
func accepted(t *testing.T) *policy.Record {
	rec := transaction(t)
	rec.Recipients = rec.Recipients[:1]
	rec.Filters, rec.Matched = nil, nil
	rec.Ending = policy.Ending{Reply: rules.Reply{Code: 250, Enhanced: "2.0.0", Text: "Ok: queued as BENCH"}, Size: 4096, QueueID: "BENCH", Backend: "127.0.0.1:25"}
	return rec
}

// poolsForget is set under the race detector, which makes sync.Pool forget at random.
var poolsForget bool

// TestLineAllocates holds what the line of a message costs: there is one for each.
func TestLineAllocates(t *testing.T) {
	if poolsForget {
		return
	}
	rec := accepted(t)
	r := Recorder{NewLogger(Default(), io.Discard)}
	if n := testing.AllocsPerRun(100, func() { r.Record(rec) }); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkLine(b *testing.B) {
	rec := accepted(new(testing.T))
	r := Recorder{NewLogger(Default(), io.Discard)}
	b.ReportAllocs()
	for b.Loop() {
		r.Record(rec)
	}
}
