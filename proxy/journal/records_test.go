package journal

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// The facts of the test's records.
type (
	mailFacts struct {
		Address string `fact:"address"`
		Local   string `fact:"local"`
		Size    *int   `fact:"size"`
	}
	listFacts struct {
		Score  float64    `fact:"score"`
		Zones  []string   `fact:"zones"`
		Result string     `fact:"result" values:"none listed"`
		Known  bool       `fact:"known"`
		IP     netip.Addr `fact:"ip"`
		Why    *string    `fact:"why"`
		Delay  int64      `fact:"delay" unit:"s"`
	}
	rcptFacts struct {
		Full bool   `fact:"full"`
		Note string `fact:"note"`
	}
	messageFacts struct {
		Size   int                `fact:"size"`
		Header rules.HeaderSource `fact:"header"`
	}
)

const (
	mailGroup = iota
	listGroup
	rcptGroup
	messageGroup
)

var testGroups = []rules.Group{
	mailGroup:    {Name: "mail", Type: reflect.TypeFor[mailFacts](), Stage: int(filters.AtMail)},
	listGroup:    {Name: "dnsbl", Type: reflect.TypeFor[listFacts](), Stage: int(filters.AtConnect)},
	rcptGroup:    {Name: "quota", Type: reflect.TypeFor[rcptFacts](), Stage: int(filters.AtRcpt)},
	messageGroup: {Name: "message", Type: reflect.TypeFor[messageFacts](), Stage: int(filters.AtMessage)},
}

var testSchema = mustSchema(testGroups)

func mustSchema(groups []rules.Group) *rules.Schema {
	s, err := rules.NewSchema(filters.Stages[:], int(filters.AtRcpt), groups)
	if err != nil {
		panic(err)
	}
	return s
}

var testRules = func() []*rules.Rule {
	at := func(line int) func(int) rules.Pos {
		return func(int) rules.Pos { return rules.Pos{File: "/etc/gatepost/gatepost.yaml", Line: line, Column: 5} }
	}
	var definitions []rules.Definition
	for i, when := range []string{"dnsbl.score >= 4", `mail.address == "" or dnsbl.known`, `header("Subject") contains "x"`} {
		definitions = append(definitions, rules.Definition{
			Name: rules.Source{Text: fmt.Sprintf("rule%d", i), At: at(i + 1)}, When: rules.Source{Text: when, At: at(i + 1)},
			Then: rules.Source{Text: []string{"reject", "greylist", "reject"}[i], At: at(i + 1)},
		})
	}
	set, problems := rules.Compile(testSchema, definitions, nil)
	if set == nil {
		panic(problems)
	}
	return set.Rules()
}()

type testHeader map[string]string

func (h testHeader) Header(name string) (string, bool) { value, ok := h[name]; return value, ok }

var (
	texts     = rapid.SampledFrom([]string{"", "a", "zen.example.org", "näher", "two words", "quote\"", "\x00\xff", strings.Repeat("x", 300)})
	addresses = rapid.SampledFrom([]string{"", "alice@example.com", "Bob@Example.ORG", "postmaster", `"a b"@example.net`, "ü@example.org"})
	clients   = rapid.SampledFrom([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("[2001:db8::1]:25"), {}})
	someRule  = rapid.SampledFrom(append([]*rules.Rule{nil}, testRules...))
)

func optional[T any](t *rapid.T, g *rapid.Generator[T], label string) *T {
	if !rapid.Bool().Draw(t, label+" there") {
		return nil
	}
	v := g.Draw(t, label)
	return &v
}

// drawTime draws one that survives nanoseconds.
func drawTime(t *rapid.T, label string) time.Time {
	return time.Unix(0, rapid.Int64Range(1, 4e18).Draw(t, label))
}

func drawReply(t *rapid.T) rules.Reply {
	return rules.Reply{Code: rapid.SampledFrom([]int{0, 250, 451, 550}).Draw(t, "code"), Enhanced: rapid.SampledFrom([]string{"", "5.7.1"}).Draw(t, "enhanced"), Text: texts.Draw(t, "text")}
}

func drawParams(t *rapid.T) (params []filters.Param) {
	for range rapid.IntRange(0, 2).Draw(t, "params") {
		params = append(params, filters.Param{Key: texts.Draw(t, "key"), Value: texts.Draw(t, "value"), HasValue: rapid.Bool().Draw(t, "has")})
	}
	return params
}

func drawList(t *rapid.T) *listFacts {
	return &listFacts{
		Score: rapid.SampledFrom([]float64{0, 4, -7, 0.25, 1e300, 1 << 60}).Draw(t, "score"), Zones: rapid.SliceOfN(texts, 0, 3).Draw(t, "zones"),
		Result: rapid.SampledFrom([]string{"none", "listed"}).Draw(t, "result"), Known: rapid.Bool().Draw(t, "known"),
		IP: clients.Draw(t, "ip").Addr(), Why: optional(t, texts, "why"), Delay: rapid.Int64Range(-1<<52, 1<<52).Draw(t, "delay"),
	}
}

func drawFilters(t *rapid.T, facts func() any) (list []policy.FilterRecord) {
	for range rapid.IntRange(0, 2).Draw(t, "filters") {
		f := policy.FilterRecord{Name: "dnsbl", Stage: filters.Stage(rapid.IntRange(0, 5).Draw(t, "stage")),
			Status: rapid.SampledFrom([]string{"ok", "timeout", "error", "unfinished"}).Draw(t, "status"), Error: texts.Draw(t, "error"),
			Duration: time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "took")) * time.Microsecond}
		if f.Status == "ok" {
			f.Facts = facts()
		}
		list = append(list, f)
	}
	return list
}

func drawFacts(t *rapid.T) (*rules.Facts, []string) {
	f := testSchema.NewFacts()
	f.SetScore(rapid.SampledFrom([]float64{0, 2.5}).Draw(t, "points"))
	if rapid.Bool().Draw(t, "mail known") {
		f.Set(mailGroup, &mailFacts{Address: addresses.Draw(t, "address"), Local: texts.Draw(t, "local"), Size: optional(t, rapid.Int(), "size")})
		if size := f.Group(mailGroup).(*mailFacts).Size; size != nil {
			*size %= 1 << 50
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "list") {
	case 0:
		f.Set(listGroup, drawList(t))
	case 1:
		f.Fail(listGroup)
	}
	if rapid.Bool().Draw(t, "message known") {
		f.Set(messageGroup, &messageFacts{Size: 1234, Header: testHeader{"Subject": texts.Draw(t, "subject")}})
	}
	return f, []string{"Subject", "X-Never"}
}

// drawRecord draws a record with everything that one can have.
func drawRecord(t *rapid.T) *policy.Record {
	id := fmt.Sprintf("0%012d", rapid.IntRange(0, 9999).Draw(t, "id"))
	start := drawTime(t, "start")
	peer, local := clients.Draw(t, "peer"), clients.Draw(t, "our")
	r := &policy.Record{ID: id, Kind: policy.SessionRecord, Start: start, End: start.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "lasted"))),
		Session: &filters.Session{ID: id, Client: filters.ClientAt(clients.Draw(t, "client")), Through: &peer, To: &local, Accepted: start},
	}
	r.Session.SetVerifiedName(texts.Draw(t, "name"))
	r.Session.Trusted, r.Session.Submission = rapid.Bool().Draw(t, "trusted"), rapid.Bool().Draw(t, "submission")
	r.Session.AskedByMTA = rapid.Bool().Draw(t, "asked by an MTA")
	if r.Session.AddrPort() == peer {
		r.Session.Through = nil
	}
	if rapid.Bool().Draw(t, "greeted") {
		r.Greeting = &filters.Greeting{Name: texts.Draw(t, "helo"), Extended: rapid.SampledFrom([]*bool{filters.Known(true), filters.Known(false), nil}).Draw(t, "extended"), AuthUser: addresses.Draw(t, "user")}
		if rapid.Bool().Draw(t, "tls") {
			r.Greeting.TLS = &filters.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: texts.Draw(t, "sni"), PeerSubject: texts.Draw(t, "subject")}
		}
	}
	r.Facts, r.Headers = drawFacts(t)
	r.Filters = drawFilters(t, func() any {
		if known := r.Facts.Group(listGroup); known != nil {
			return known
		}
		return drawList(t)
	})
	for range rapid.IntRange(0, 3).Draw(t, "matches") {
		if rule := someRule.Draw(t, "matched"); rule != nil {
			r.Matched = append(r.Matched, policy.Match{Rule: rule, Observed: rapid.Bool().Draw(t, "observed"), Recipient: addresses.Draw(t, "matched for")})
		}
	}
	r.Ending = policy.Ending{Reply: drawReply(t), Ours: rapid.Bool().Draw(t, "ours"), Backend: texts.Draw(t, "backend"), QueueID: texts.Draw(t, "queue id"),
		Size: rapid.Int64Range(0, 1<<40).Draw(t, "size"), Note: texts.Draw(t, "note"), Normalized: texts.Draw(t, "normalized"), Suppressed: texts.Draw(t, "suppressed"), Kept: texts.Draw(t, "kept")}
	if rapid.Bool().Draw(t, "digest") {
		r.Ending.Digest = [32]byte{1, 2, 255}
	}
	r.Reached = policy.Step(rapid.IntRange(0, int(policy.StepEnd)).Draw(t, "reached"))
	if rapid.Bool().Draw(t, "refused") {
		r.Refused = &policy.Decision{Action: rules.Reject, Rule: someRule.Draw(t, "by"), Reply: drawReply(t)}
	}
	r.Bypassed = policy.Bypassed{Greet: rapid.Bool().Draw(t, "b1"), Helo: rapid.Bool().Draw(t, "b2"), Transaction: rapid.Bool().Draw(t, "b3")}
	if rapid.Bool().Draw(t, "attempt") {
		r.Attempt = &policy.Attempt{Recipient: rapid.IntRange(-1, 3).Draw(t, "for"), Failed: rapid.Bool().Draw(t, "failed"),
			GreylistAttempt: filters.GreylistAttempt{State: filters.GreylistEarly, First: drawTime(t, "first")}}
	}
	if rapid.Bool().Draw(t, "settings") {
		r.Settings = &policy.Settings{Greylist: rapid.Uint64().Draw(t, "s1"), RateLimit: rapid.Uint64().Draw(t, "s2")}
	}
	r.Transactions = rapid.IntRange(0, 9).Draw(t, "transactions")
	if rapid.Bool().Draw(t, "transaction") {
		drawTransaction(t, r)
	}
	return r
}

func drawTransaction(t *rapid.T, r *policy.Record) {
	r.Kind, r.ID = policy.TransactionRecord, r.ID+".3"
	r.Envelope = &filters.Envelope{ID: r.ID, ReversePath: addresses.Draw(t, "from"), Params: drawParams(t), Size: rapid.Int64Range(0, 1<<40).Draw(t, "declared"),
		UTF8: rapid.Bool().Draw(t, "utf8"), Started: r.Start}
	for range rapid.IntRange(0, 3).Draw(t, "recipients") {
		r.Recipients = append(r.Recipients, policy.RecipientRecord{Address: addresses.Draw(t, "to"), Params: drawParams(t), Reply: drawReply(t),
			Ours: rapid.Bool().Draw(t, "ours"), Action: rapid.SampledFrom([]rules.Action{0, rules.Reject, rules.Greylist}).Draw(t, "action"), Rule: someRule.Draw(t, "rule"),
			Asked: rapid.Bool().Draw(t, "asked"), Score: 0.5, Filters: drawFilters(t, func() any { return &rcptFacts{Full: rapid.Bool().Draw(t, "full"), Note: texts.Draw(t, "note")} })})
	}
}

// writeAll writes records into a journal in folder, which is closed again.
func writeAll(t testing.TB, c Config, records ...*policy.Record) {
	t.Helper()
	j, err := Open(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		j.Record(r)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func testConfig(folder string) Config {
	c := Defaults()
	c.Path, c.Keep = folder, filters.Duration(3000*24*time.Hour)
	return c
}

// readAll reads what a query wants; damage is a failure.
func readAll(t testing.TB, folder string, q Query) []*Entry {
	t.Helper()
	r, err := NewReader(folder, func(d Damage) { t.Errorf("damage: %s", d) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []*Entry
	if err := r.Each(context.Background(), q, func(e *Entry) bool { all = append(all, e.Clone()); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func sameTime(a, b time.Time) bool { return a.Equal(b) || a.IsZero() && b.IsZero() }

// differences compares a record with what was read back.
func differences(r *policy.Record, e *Entry) (found []string) {
	check := func(what string, want, got any) {
		if !reflect.DeepEqual(want, got) {
			found = append(found, fmt.Sprintf("%s: wrote %+v, read %+v", what, want, got))
		}
	}
	check("id", r.ID, e.ID)
	check("kind", r.Kind, e.Kind)
	check("start", true, sameTime(r.Start, e.Start))
	check("end", true, sameTime(r.End, e.End))
	session := *e.Session
	if sameTime(session.Accepted, r.Session.Accepted) {
		session.Accepted = r.Session.Accepted
	}
	check("session", *r.Session, session)
	check("greeting", r.Greeting, e.Greeting)
	if r.Envelope != nil && e.Envelope != nil && sameTime(r.Envelope.Started, e.Envelope.Started) {
		e.Envelope.Started = r.Envelope.Started
	}
	check("envelope", r.Envelope, e.Envelope)
	check("recipients", len(r.Recipients), len(e.Recipients))
	for i := range min(len(r.Recipients), len(e.Recipients)) {
		want, got := r.Recipients[i], e.Recipients[i]
		check("recipient", []any{want.Address, want.Params, want.Reply, want.Ours, want.Action.String(), ruleName(want.Rule), want.Asked, want.Score},
			[]any{got.Address, got.Params, got.Reply, got.Ours, got.Action, entryRuleName(got.Rule), got.Asked, got.Score})
		found = append(found, filterDifferences(want.Filters, got.Filters)...)
	}
	found = append(found, filterDifferences(r.Filters, e.Filters)...)
	found = append(found, factDifferences(r, e)...)
	check("matches", len(r.Matched), len(e.Matched))
	for i := range min(len(r.Matched), len(e.Matched)) {
		want, got := r.Matched[i], e.Matched[i]
		check("match", []any{ruleName(want.Rule), want.Observed, want.Recipient}, []any{entryRuleName(got.Rule), got.Observed, got.Recipient})
	}
	check("ending", r.Ending, e.Ending)
	check("reached", r.Reached, e.Reached)
	check("refused", r.Refused == nil, e.Refused == nil)
	if r.Refused != nil && e.Refused != nil {
		check("refused", []any{r.Refused.Action.String(), ruleName(r.Refused.Rule), r.Refused.Reply}, []any{e.Refused.Action, entryRuleName(e.Refused.Rule), e.Refused.Reply})
	}
	check("bypassed", r.Bypassed, e.Bypassed)
	if r.Attempt != nil && e.Attempt != nil && sameTime(r.Attempt.First, e.Attempt.First) {
		e.Attempt.First = r.Attempt.First
	}
	check("attempt", r.Attempt, e.Attempt)
	check("settings", r.Settings, e.Settings)
	check("transactions", r.Transactions, e.Transactions)
	return found
}

func ruleName(r *rules.Rule) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintln(r.Name, r.Pos.File, r.Pos.Line, r.Pos.Column, r.Action, r.Mode, r.Stage, r.When, r.Index, r.DeferOnError)
}

func entryRuleName(r *Rule) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintln(r.Name, r.File, r.Line, r.Column, r.Action, r.Mode, int(r.Stage), r.When, r.Index, r.DeferOnError)
}

func filterDifferences(want []policy.FilterRecord, got []Filter) (found []string) {
	if len(want) != len(got) {
		return []string{fmt.Sprintf("filters: wrote %d, read %d", len(want), len(got))}
	}
	for i := range want {
		w, g := want[i], got[i]
		if w.Name != g.Name || w.Stage != g.Stage || w.Status != g.Status || w.Error != g.Error || w.Duration != g.Duration || (w.Facts == nil) != (g.Facts == nil) {
			found = append(found, fmt.Sprintf("filter: wrote %+v, read %+v", w, g))
		}
		if facts, ok := w.Facts.(*rcptFacts); ok {
			full, _ := g.Facts.Lookup("quota.full")
			note, _ := g.Facts.Lookup("quota.note")
			if full != facts.Full || note != facts.Note {
				found = append(found, fmt.Sprintf("a recipient's facts: wrote %+v, read %v, %v", facts, full, note))
			}
		}
	}
	return found
}

func factDifferences(r *policy.Record, e *Entry) (found []string) {
	want, got := map[string]any{}, map[string]any{}
	r.Facts.All(func(name string, value any) { want[name] = value })
	failed := 0
	for i := range e.Facts {
		e.Facts[i].All(func(name string, value any) { got[name] = value })
		if e.Facts[i].Failed {
			failed++
		}
	}
	for name, value := range want {
		if list, ok := value.([]string); ok {
			if other, _ := got[name].([]string); !slices.Equal(list, other) {
				found = append(found, fmt.Sprintf("%s: wrote %q, read %q", name, list, other))
			}
		} else if got[name] != value {
			found = append(found, fmt.Sprintf("%s: wrote %v, read %v", name, value, got[name]))
		}
	}
	if len(want) != len(got) || (failed == 1) != r.Facts.Failed(listGroup) || e.Score != r.Facts.Score() {
		found = append(found, fmt.Sprintf("facts: wrote %v, read %v, %d failed", want, got, failed))
	}
	for _, name := range r.Headers {
		value, known := r.Facts.Header(name)
		if other, read := e.Header(name); value != other || known != read {
			found = append(found, fmt.Sprintf("header %s: wrote %q %t, read %q %t", name, value, known, other, read))
		}
	}
	return found
}

func client(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
