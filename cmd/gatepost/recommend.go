package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"gatepost/filters/dnsbl"
	"gatepost/filters/greylist"
	"gatepost/filters/ratelimit"
	"gatepost/policy"
	"gatepost/policy/recommend"
	"gatepost/policy/replay"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
)

func recommendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recommend",
		Short: "Tell which settings would fit the mail of the last days better, and what they would have changed",
		Long: `Look through the mail of the last days for settings that would fit it better: how long to greylist, what limits good
senders never meet, senders that come back from other addresses, rules that never match, block lists that say nothing or too
much. Each comes with the figures behind it, the edit, and what the edit would have changed ("gatepost backtest" of it).
Nothing is changed.

  gatepost recommend --since 7d
  gatepost recommend --json | jq '.recommendations[] | {kind, subject, change}'

docs/recommend.md says how each is found.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	p := past{}
	p.flags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print an object of JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loaded(*file)
		if err != nil {
			return err
		}
		advice, err := advise(c, p.of(cmd, *file))
		if err != nil {
			return err
		}
		if !*asJSON {
			return writeAdvice(cmd.OutOrStdout(), advice)
		}
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(advice)
	}
	return cmd
}

// advice is all that is recommended, and what was looked at.
type advice struct {
	Transactions    int               `json:"transactions"`
	Sessions        int               `json:"sessions"`
	Recommendations []*recommendation `json:"recommendations"`
	// Fits says of what was looked at and is left as it is, and of what too little is known.
	Fits []string `json:"fits"`
}

// recommendation is one change, with its figures and what it would have done.
type recommendation struct {
	admin.Recommendation

	adopt func(*config.Config)                      // nil: it cannot be tried
	as    func(*policy.Recording) *policy.Recording // how filters would have found it then; nil: as they did
	trial *replay.Backtest
}

// advise reads the journal twice: for what can be recommended, and for what that would have changed.
func advise(c *config.Config, from recorded) (*advice, error) {
	a := &advice{Recommendations: []*recommendation{}, Fits: []string{}}
	survey := recommend.New(surveyed(c))
	matches, err := newRuleSurvey(c)
	if err != nil {
		return nil, err
	}
	err = from.mail(func(e *journal.Entry, r *policy.Recording) {
		if r.Envelope == nil {
			a.Sessions++
		} else {
			a.Transactions++
		}
		survey.Add(r)
		matches.add(e, r)
	})
	if err != nil {
		return nil, err
	}
	a.greylisting(c, survey)
	a.pools(c, survey)
	a.limits(c, survey)
	a.lists(c, survey)
	a.rules(matches)
	return a, a.try(c, from)
}

func surveyed(c *config.Config) recommend.Config {
	var s recommend.Config
	if on(c, "greylist") {
		s.Greylist, _ = c.Filters["greylist"].Settings.(*greylist.Config)
	}
	if limits, ok := c.Filters["ratelimit"].Settings.(*ratelimit.Config); ok && on(c, "ratelimit") {
		s.Limits = limits.Limits
	}
	if lists, ok := c.Filters["dnsbl"].Settings.(*dnsbl.Config); ok && on(c, "dnsbl") {
		for _, z := range lists.Zones {
			s.Zones = append(s.Zones, listName(z))
		}
	}
	return s
}

func on(c *config.Config, filter string) bool { return c.Filters[filter].Common.Enabled }

// listName is what facts call a list.
func listName(z dnsbl.Zone) string {
	if z.Name != "" {
		return z.Name
	}
	return z.Zone
}

// try runs the journal again with each recommendation adopted, and compares with the configuration as it is.
func (a *advice) try(c *config.Config, from recorded) error {
	base, err := newTrial(c, "")
	if err != nil {
		return err
	}
	var tried []*recommendation
	for _, r := range a.Recommendations {
		if r.adopt == nil {
			continue
		}
		adopted := copyOf(c)
		r.adopt(adopted)
		trial, err := newTrial(adopted, "")
		if err != nil {
			r.Untried = err.Error()
			continue
		}
		r.trial = trial.Against(base)
		tried = append(tried, r)
	}
	if len(tried) == 0 {
		return nil
	}
	err = from.mail(func(_ *journal.Entry, recording *policy.Recording) {
		base.Add(recording)
		for _, r := range tried {
			if r.as != nil {
				r.trial.Add(r.as(recording))
			} else {
				r.trial.Add(recording)
			}
		}
	})
	for _, r := range tried {
		r.Backtest = r.trial.Report()
	}
	return err
}
