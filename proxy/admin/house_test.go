package admin

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/filters/exception"
	"gatepost/filters/filtertest"
	"gatepost/filters/greylist"
	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

// nasty is what strangers write: HTML, quotes, control characters, marks that turn text around, a byte that is no UTF-8.
const nasty = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>` onfocus=alert(3) x=\x1b[31m\x07\x00\x9b\u202e\u2066\u200b{{.}}javascript:alert(4)\xff"

const entryID = "38G29KFPP00XD.1"

// oldID is of a transaction of the same session that is not among its latest.
const oldID = "38G29KFPP00XD.2"

// changeID is that of what somebody changed.
const changeID = "38G29KFPR000V"

// fakeHouse has one of everything, all of it nasty. It is safe for concurrent use.
type fakeHouse struct {
	quarantine bool

	mu    sync.Mutex // guards what follows
	calls []string
	asked Search
	wait  chan struct{} // searches wait for it; nil: they do not
}

func (f *fakeHouse) called(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
}

func (f *fakeHouse) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, "; ")
}

func nastyEntry() *journal.Entry {
	local := netip.MustParseAddrPort("192.0.2.1:25")
	rule := &journal.Rule{Name: "blocked", File: nasty, Line: 3, Action: "reject", When: nasty}
	return &journal.Entry{ID: entryID, Kind: policy.TransactionRecord, Start: filtertest.Start, End: filtertest.Start.Add(time.Second), Verdict: "reject",
		Session:    &filters.Session{Client: filters.ClientAt(netip.MustParseAddrPort("192.0.2.7:4711")), To: &local},
		Greeting:   &filters.Greeting{Name: nasty},
		Envelope:   &filters.Envelope{ReversePath: nasty + "@example.net", Params: []filters.Param{{Key: nasty, Value: nasty, HasValue: true}}},
		Recipients: []journal.Recipient{{Address: nasty, Reply: rules.Reply{Code: 550, Text: nasty}, Ours: true, Rule: rule}},
		Matched:    []journal.Match{{Rule: rule, Recipient: nasty}},
		Filters:    []journal.Filter{{Name: "rdns", Status: "error", Error: nasty}},
		Headers:    []journal.Header{{Name: "Subject", Known: true, Value: nasty}},
		Ending:     policy.Ending{Note: nasty, Backend: nasty, QueueID: nasty},
		Attempt:    &policy.Attempt{},
	}
}

// nastyChange is what somebody changed.
func nastyChange() *journal.Entry {
	return &journal.Entry{ID: changeID, Kind: journal.ChangeEntry, Start: filtertest.Start, End: filtertest.Start,
		Change: &journal.Change{What: journal.Block, By: nasty, Kind: "sender", About: nasty, Why: nasty, Note: nasty, Until: filtertest.Start}}
}

func (f *fakeHouse) Now() Now {
	return Now{At: filtertest.Start, Started: filtertest.Start, NotReady: []string{nasty}, Hints: []string{nasty}, Bypass: filtertest.Start.Add(time.Hour),
		Sessions: Sessions{Open: 3, Networks: []ClientNetwork{{"192.0.2.7", 2}}, Oldest: []OpenSession{{ID: "x", Client: "192.0.2.7", Name: nasty, User: nasty, Age: 3, Stage: "data", Waits: "spf"}}},
		Backends: []Backend{{Use: "mail", Address: nasty}}, Filters: []Filter{{Name: "spf", Answers: Answers{OK: 9, Error: 1}}, {Name: "dkim"}, {Name: "milter.x", Circuit: &Circuit{Open: true, Failures: 5, Until: filtertest.Start}}}}
}

func (f *fakeHouse) Rules() []Rule {
	return []Rule{{Name: "blocked", Place: nasty, When: nasty, Outcomes: Tally{1: 5}, Last: filtertest.Start}}
}

func (f *fakeHouse) RulesText() (string, error)     { return "rules:\n" + nasty, nil }
func (f *fakeHouse) Configuration() (string, error) { return nasty, nil }
func (f *fakeHouse) Lists() []List {
	return []List{{Name: nasty, Path: nasty, Rules: []string{"blocked"}}}
}

func (f *fakeHouse) Search(ctx context.Context, s Search) (*Found, error) {
	f.mu.Lock()
	f.asked = s
	wait := f.wait
	f.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
	if s.Where == "bad" {
		return nil, errors.New(nasty)
	}
	return &Found{Entries: []*journal.Entry{nastyChange(), nastyEntry()}, More: true}, nil
}

func (f *fakeHouse) Why(_ context.Context, text string, _ int) ([]Story, error) {
	if text == nasty {
		return nil, errors.New(nasty)
	}
	if text == changeID {
		return []Story{{Entry: nastyChange()}}, nil
	}
	if !strings.HasPrefix(entryID, text) && text != oldID {
		return nil, nil
	}
	if text == oldID {
		old := nastyEntry()
		old.ID = oldID
		return []Story{{Entry: old}}, nil
	}
	return []Story{{Entry: nastyEntry(), Chapters: []Chapter{{nasty, []Line{{1, nasty}}}}}}, nil
}

func (f *fakeHouse) Try(_ context.Context, text []byte, since time.Duration) (*Trial, error) {
	f.called("try " + since.String() + " " + string(text))
	if strings.HasPrefix(string(text), "bad") {
		return &Trial{Problems: []string{nasty}, Warnings: []string{nasty}}, nil
	}
	return &Trial{Report: nastyReport()}, nil
}

func nastyReport() *replay.Report {
	mention := []replay.Mention{{ID: entryID, Time: filtertest.Start, Client: "192.0.2.7", From: nasty, Recipients: []string{nasty}, Mail: true}}
	return &replay.Report{From: filtertest.Start, To: filtertest.Start, Transactions: 2, Differ: 1, Untold: 1,
		Rules:   []replay.RuleCount{{Rule: "blocked", Fate: replay.Refused, Is: 1}},
		Changes: []replay.Group{{Was: replay.Delivered, Is: replay.Refused, IsBy: "blocked", IsCode: 550, Count: 1, Transactions: mention}},
		Unknown: []replay.Untold{{Missing: "dkim.result", Was: replay.Refused, WasCode: 550, Count: 1, Transactions: mention}}}
}

func (f *fakeHouse) Observe(_ context.Context, since time.Duration) ([]*Observed, error) {
	f.called("observe " + since.String())
	if since == time.Hour {
		return nil, errors.New(nasty)
	}
	return []*Observed{{Name: nasty, Action: "reject", Place: nasty, Watched: filtertest.Start, First: filtertest.Start, Report: nastyReport(), Warnings: []string{nasty}, Edit: nasty, EditProblem: nasty}}, nil
}

func (f *fakeHouse) Recommend(_ context.Context, since time.Duration) (*Advice, error) {
	f.called("recommend " + since.String())
	if since == time.Hour {
		return nil, errors.New(nasty)
	}
	return &Advice{Transactions: 2, Fits: []string{nasty}, Recommendations: []*Recommendation{
		{Kind: "rule", Subject: nasty, Text: nasty, Reasons: []string{nasty}, Change: nasty, Backtest: nastyReport()}, {Untried: nasty}}}, nil
}

func (f *fakeHouse) Greylist(_ context.Context, query string, yield func(greylist.Entry) bool) error {
	if query == "bad" {
		return errors.New(nasty)
	}
	yield(greylist.Entry{Key: "n:" + nasty, Network: "192.0.2.0/24", Sender: nasty, First: filtertest.Start, Last: filtertest.Start, Expires: filtertest.Start})
	return nil
}

func (f *fakeHouse) PassGreylist(_ context.Context, query string) (string, error) {
	f.called("pass " + query)
	return "o:" + query, nil
}

func (f *fakeHouse) ForgetGreylist(_ context.Context, query string) (int, error) {
	f.called("forget " + query)
	return 2, nil
}

func (f *fakeHouse) Memories() []filters.MemoryKind {
	return []filters.MemoryKind{
		{Name: "known", Title: "Known senders", Summary: nasty, What: "Sender", Columns: []string{nasty}, Queries: "an address"},
		{Name: "pools", Title: "Pools", What: "Domain"},
	}
}

func (f *fakeHouse) Learned(_ context.Context, memory, query string, yield func(filters.Learned) bool) error {
	if query == "bad" {
		return errors.New(nasty)
	}
	l := filters.Learned{What: nasty, Count: 3, First: filtertest.Start, Last: filtertest.Start, Expires: filtertest.Start}
	if memory == "known" {
		l.Values = []string{nasty}
	}
	yield(l)
	return nil
}

func (f *fakeHouse) ForgetLearned(_ context.Context, memory, query string) (int, error) {
	f.called("forget " + memory + " " + query)
	return 2, nil
}

func (f *fakeHouse) Exceptions(context.Context) ([]*exception.Entry, error) {
	return []*exception.Entry{{Action: exception.Allow, Kind: exception.Sender, Value: nasty, By: nasty, Why: nasty, Added: filtertest.Start, Expires: filtertest.Start}}, nil
}

func (f *fakeHouse) AddException(_ context.Context, r exception.Request) (*exception.Entry, bool, error) {
	f.called(string(r.Action) + " " + string(r.Kind) + " " + r.Value + " for " + time.Duration(r.For).String() + " " + r.Why)
	if r.Value == "bad" {
		return nil, false, errors.New(nasty)
	}
	return &exception.Entry{Action: r.Action, Kind: r.Kind, Value: r.Value, Expires: filtertest.Start}, true, nil
}

func (f *fakeHouse) RemoveException(_ context.Context, r exception.Request) (int, error) {
	f.called("remove " + string(r.Action) + " " + string(r.Kind) + " " + r.Value)
	return len(r.Value), nil
}

func (f *fakeHouse) Quarantine() Quarantine {
	if !f.quarantine {
		return nil
	}
	return fakeQuarantine{f}
}

type fakeQuarantine struct{ *fakeHouse }

func nastyMessage() QuarantinedMessage {
	return QuarantinedMessage{ID: entryID, Time: filtertest.Start, Expires: filtertest.Start, Client: "192.0.2.7", From: nasty, Recipients: []string{nasty}, Subject: nasty, Size: 1 << 20, Problem: nasty}
}

func (f fakeQuarantine) List(_ context.Context, yield func(QuarantinedMessage) bool) error {
	yield(nastyMessage())
	return nil
}

func (f fakeQuarantine) Show(_ context.Context, id string) (QuarantinedMessage, string, error) {
	if id != entryID {
		return QuarantinedMessage{}, "", ErrNotFound
	}
	return nastyMessage(), nasty, nil
}

func (f fakeQuarantine) Release(_ context.Context, id string) (string, error) {
	f.called("release " + id)
	return nasty, nil
}

func (f fakeQuarantine) Delete(_ context.Context, id string) error {
	f.called("delete " + id)
	return nil
}
