package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
)

// ruleSurvey counts how often rules match, and which facts are ever known.
type ruleSurvey struct {
	config  *config.Config
	trial   *replay.Backtest
	matched map[string]int
	known   map[string]bool
	reads   map[string][]string // facts, by rule
	seen    int
}

func newRuleSurvey(c *config.Config) (*ruleSurvey, error) {
	trial, err := newTrial(c, "")
	if err != nil {
		return nil, err
	}
	env := filtertest.NewEnv(filtertest.NewZone())
	env.Hostname, env.Domains, env.Log = c.Hostname, c.Domains, slog.New(slog.DiscardHandler)
	engine, problems := c.Compile(all.Specs(), env)
	if engine == nil {
		return nil, problems
	}
	s := &ruleSurvey{config: c, trial: trial, matched: map[string]int{}, known: map[string]bool{}, reads: map[string][]string{}}
	for _, r := range engine.Rules().Rules() {
		s.reads[r.Name] = r.Fields
	}
	return s, nil
}

// add counts what matches when the rules of now are run again, and what was recorded of rules by these names.
func (s *ruleSurvey) add(e *journal.Entry, r *policy.Recording) {
	s.seen++
	s.trial.Add(r)
	names := map[string]bool{}
	for _, m := range s.trial.Last().Matched {
		names[m.Rule.Name] = true
	}
	for i := range e.Matched {
		names[e.Matched[i].Rule.Name] = true
	}
	for name := range names {
		s.matched[name]++
	}
	for _, fields := range s.reads {
		for _, name := range fields {
			if !s.known[name] && s.isKnown(e, name) {
				s.known[name] = true
			}
		}
	}
}

func (s *ruleSurvey) isKnown(e *journal.Entry, name string) bool {
	if _, ok := e.Lookup(name); ok {
		return true
	}
	if field, ok := strings.CutPrefix(name, `header("`); ok {
		_, known := e.Header(strings.TrimSuffix(field, `")`))
		return known
	}
	for i := range e.Recipients {
		for _, f := range e.Recipients[i].Filters {
			if f.Facts == nil {
				continue
			}
			if _, ok := f.Facts.Lookup(name); ok {
				return true
			}
		}
	}
	return strings.HasPrefix(name, "rcpt.") && len(e.Recipients) > 0 || name == "score"
}

// fewEntries is below what a rule that has not matched says nothing.
const fewEntries = 200

// neverMatched is what is found of a rule.
type neverMatched struct {
	Looked  int      `json:"looked_at"` // sessions and transactions
	Unknown []string `json:"unknown"`   // facts that it reads, and that were never known
}

// rules recommends to look after rules that never match. Of the default rules most never do, on purpose.
func (a *advice) rules(s *ruleSurvey) {
	if s.seen < fewEntries {
		a.fits("rules: %d sessions and transactions say too little about which rules never match", s.seen)
		return
	}
	used := 0
	for _, d := range s.config.Rules {
		name, at := d.Name.Text, d.Name.At(0)
		if s.matched[name] > 0 {
			used++
			continue
		}
		if at.File == config.DefaultRulesFile {
			continue
		}
		found := neverMatched{Looked: s.seen, Unknown: []string{}}
		for _, fact := range s.reads[name] {
			if !s.known[fact] {
				found.Unknown = append(found.Unknown, fact)
			}
		}
		slices.Sort(found.Unknown)
		r := &recommendation{Recommendation: admin.Recommendation{
			Kind: "rule", Subject: name, Figures: found,
			Text:    fmt.Sprintf("Look after the rule %s at %s:%d, or do without it: it never matches.", name, at.File, at.Line),
			Reasons: []string{fmt.Sprintf("Of %d sessions and transactions it matched none.", s.seen)},
			Change:  "# rules: without " + name + "\n",
		}, adopt: func(c *config.Config) {
			for i := range c.Rules {
				if c.Rules[i].Name.Text == name {
					c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
					return
				}
			}
		}}
		if len(found.Unknown) > 0 {
			r.Reasons = append(r.Reasons, "It reads what was never known: "+strings.Join(found.Unknown, ", "))
		}
		a.add(r)
	}
	a.fits("rules: %d of %d matched: %s", used, len(s.config.Rules), strings.Join(slices.Sorted(maps.Keys(s.matched)), ", "))
}
