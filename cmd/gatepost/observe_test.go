package main

import (
	"testing"
	"time"

	"gatepost/proxy/admin"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

// A rule has been watched since the journal knows it with the same name, condition and action, without a break.
func TestSinceWhenARuleIsWatched(t *testing.T) {
	rule := func(name, when, mode string) *journal.Rule {
		return &journal.Rule{Name: name, When: when, Action: "reject", Mode: mode}
	}
	watched, enforced, other := rule("a", "mail.null", "observe"), rule("a", "mail.null", "enforce"), rule("a", "not mail.null", "observe")
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		history []*journal.Rule // one a day, from the first; nil: a day of other changes
		want    time.Time
		longer  bool
	}{
		"never told":         {nil, time.Time{}, false},
		"from the beginning": {[]*journal.Rule{watched, nil, watched}, at(1), true},
		"new":                {[]*journal.Rule{rule("b", "mail.null", "observe"), watched, watched}, at(2), false},
		"changed":            {[]*journal.Rule{other, watched}, at(2), false},
		"enforced meanwhile": {[]*journal.Rule{watched, enforced, watched}, at(3), false},
		"not in force now":   {[]*journal.Rule{watched, other}, time.Time{}, false},
		"in other lines":     {[]*journal.Rule{enforced, rule("a", " mail.null\n", "observe")}, at(2), false},
	} {
		from := recorded{changes: func(yield func(*journal.Change)) error {
			for i, r := range c.history {
				change := &journal.Change{At: at(i + 1), What: journal.Reload}
				if r != nil {
					change.Rules = []*journal.Rule{rule("z", "mail.null", "enforce"), r}
				}
				yield(change)
			}
			return nil
		}}
		w := &watchedRule{Observed: &admin.Observed{Name: "a", Action: "reject"}, definition: &rules.Definition{When: rules.Source{Text: "mail.null"}}}
		if err := watchedSince([]*watchedRule{w}, from); err != nil {
			t.Fatal(err)
		}
		if !w.Watched.Equal(c.want) || w.Longer != c.longer {
			t.Errorf("%s: %v, longer: %t", name, w.Watched, w.Longer)
		}
	}
}

// The pages tell what the commands do.
func TestObservedAndRecommendedByTheAPI(t *testing.T) {
	s := startServe(t, "admin: 127.0.0.1:0\n"+replayRules)
	s.sendAll()
	s.awaitJournal("change", "--where", `change == "start"`)
	var observed struct {
		Rules []admin.Observed
	}
	if status := s.ask("GET", "/api/rules/observed?since=1d", "", &observed); status != 200 || len(observed.Rules) != 4 {
		t.Fatalf("%d %+v", status, observed)
	}
	for _, r := range observed.Rules {
		if r.Watched.IsZero() || r.Report == nil || r.Report.Transactions == 0 || r.Edit == "" || len(r.Warnings) == 0 {
			t.Errorf("%+v", r)
		}
	}
	var advice admin.Advice
	if status := s.ask("GET", "/api/rules/recommended?since=1d", "", &advice); status != 200 || advice.Transactions == 0 || len(advice.Fits)+len(advice.Recommendations) == 0 {
		t.Errorf("%d %+v", status, advice)
	}
	var problem struct{ Error string }
	if status := s.ask("GET", "/api/rules/observed?since=ever", "", &problem); status != 422 || problem.Error == "" {
		t.Errorf("%d %s", status, problem.Error)
	}
}
