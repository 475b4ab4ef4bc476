package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/filters/dnsbl"
	"gatepost/filters/greylist"
	"gatepost/filters/ratelimit"
	"gatepost/policy/recommend"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/rules"
)

// copyOf is a configuration whose filters and rules can be replaced.
func copyOf(c *config.Config) *config.Config {
	copied := *c
	copied.Filters = maps.Clone(c.Filters)
	copied.Rules = slices.Clone(c.Rules)
	return &copied
}

// setFilter gives a filter other settings.
func setFilter(c *config.Config, name string, settings any) {
	f := c.Filters[name]
	f.Settings = settings
	c.Filters[name] = f
}

func (a *advice) greylisting(c *config.Config, s *recommend.Survey) {
	if !on(c, "greylist") {
		return
	}
	now := *c.Filters["greylist"].Settings.(*greylist.Config)
	g, ok := s.Greylisting()
	switch {
	case !ok:
		a.fits("greylisting: only %s of %d came back, which says too little", counted(g.Returned, "sender"), g.Waits)
		return
	case g.Delay == now.Delay && g.Window == now.Window:
		a.fits("greylisting: delay %s and window %s fit (%d senders came back)", now.Delay, now.Window, g.Returned)
		return
	}
	fitting := now
	fitting.Delay, fitting.Window, fitting.Keep = g.Delay, g.Window, max(now.Keep, g.Window)
	a.add(&recommendation{Recommendation: admin.Recommendation{
		Kind: "greylist", Subject: "greylist", Figures: g,
		Text: fmt.Sprintf("Greylist for %s instead of %s, with a window of %s instead of %s.", g.Delay, now.Delay, g.Window, now.Window),
		Reasons: []string{
			fmt.Sprintf("%d first attempts were told to come back, and %d (%s) did.", g.Waits, g.Returned, percent(g.Returned, g.Waits)),
			fmt.Sprintf("Their first retry came after: 5 %% %s, half %s, 95 %% %s, the last %s.", g.Retry.P5, g.Retry.P50, g.Retry.P95, g.Retry.Max),
			fmt.Sprintf("With this delay half of them pass after %s (now %s), 99 %% after %s; %d would not have passed.", g.Pass.P50, g.HeldUp, g.Pass.P99, g.KeptOut),
		},
		Change: fmt.Sprintf("filters:\n  greylist: {delay: %s, window: %s}\n", g.Delay, g.Window),
	}, adopt: func(c *config.Config) { setFilter(c, "greylist", &fitting) }})
}

func (a *advice) pools(c *config.Config, s *recommend.Survey) {
	for _, p := range s.Pools() {
		r := &recommendation{Recommendation: admin.Recommendation{
			Kind: "pool", Subject: p.Domain, Figures: p,
			Text: fmt.Sprintf("Do not greylist %s: it comes back from other addresses.", p.Domain),
			Reasons: []string{fmt.Sprintf("%s came back from elsewhere; %s in all, held up for %s at most, %d never seen to be delivered.",
				counted(p.Waits, "first attempt"), counted(len(p.Networks), "network"), p.HeldUp, p.Lost)},
		}}
		condition := notIn(p.Networks)
		r.Change = "# in each rule with `then: greylist`:\n#   when: (…) " + condition + "\n"
		if !slices.ContainsFunc(c.Rules, greylists) {
			r.Untried = "no rule greylists any more"
		} else {
			r.adopt = func(c *config.Config) { exempt(c, condition) }
		}
		a.add(r)
	}
}

func notIn(networks []netip.Prefix) string {
	quoted := make([]string, len(networks))
	for i, n := range networks {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return "and not in_network(client.ip, " + strings.Join(quoted, ", ") + ")"
}

func greylists(d rules.Definition) bool { return d.Then.Text == rules.Greylist.String() }

// exempt adds a condition to the rules that greylist.
func exempt(c *config.Config, condition string) {
	for i := range c.Rules {
		if d := &c.Rules[i]; greylists(*d) {
			d.When.Text = "(" + d.When.Text + ") " + condition
		}
	}
}

// A limit that is off by less than this is good enough.
const goodEnough = 1.5

func (a *advice) limits(c *config.Config, s *recommend.Survey) {
	for _, l := range s.Limits() {
		if ratio := float64(l.Amount) / float64(max(l.Now, 1)); ratio < goodEnough && ratio > 1/goodEnough {
			a.fits("limit %s: %s per %s fits %s", l.Name, amount(l.Now, l.Count), l.Span, counted(l.Good, "sender"))
			continue
		}
		settings := c.Filters["ratelimit"].Settings.(*ratelimit.Config)
		fitting := ratelimit.Config{Limits: slices.Clone(settings.Limits)}
		i := slices.IndexFunc(fitting.Limits, func(x ratelimit.Limit) bool { return x.Name == l.Name })
		limit := &fitting.Limits[i]
		limit.Rate.Amount.N, limit.Burst = l.Amount, ratelimit.Amount{}
		limit.Rate.Amount.Bytes = limit.Count == "bytes"
		r := &recommendation{Recommendation: admin.Recommendation{
			Kind: "limit", Subject: l.Name, Figures: l,
			Text: fmt.Sprintf("Limit %s (%s per %s) to %s/%s instead of %s/%s.", l.Name, l.Count, owners[l.Per], amount(l.Amount, l.Count), l.Span, amount(l.Now, l.Count), l.Span),
			Reasons: []string{
				fmt.Sprintf("Of %d %ss with mail that was taken, half have at most %s in %s, 99 %% at most %s, the busiest %s.",
					l.Good, owners[l.Per], amount(l.P50, l.Count), l.Span, amount(l.P99, l.Count), amount(l.Max, l.Count)),
				fmt.Sprintf("%d of them came above what is allowed now; %d would come above this, and %d others.", l.OverNow, l.Over, l.OverBad),
			},
			Change: "filters:\n  ratelimit:\n    limits:   # naming any replaces all\n      - " + limitText(*limit) + "\n",
		}, adopt: func(c *config.Config) { setFilter(c, "ratelimit", &fitting) }}
		if len(l.Exceeding) > 0 {
			r.Reasons = append(r.Reasons, "Above it, and so to be looked at: "+strings.Join(l.Exceeding, ", "))
		}
		a.add(r)
	}
}

var owners = map[string]string{"client": "client", "sender_domain": "sender domain", "recipient": "recipient"}

func amount(n int64, count string) string {
	return ratelimit.Amount{N: n, Bytes: count == "bytes"}.String()
}

func limitText(l ratelimit.Limit) string {
	text := fmt.Sprintf("{name: %s, count: %s, per: %s, rate: %s/%s", l.Name, l.Count, l.Per, l.Rate.Amount, filters.Duration(l.Rate.Per))
	if l.IPv4Prefix != 0 {
		text += fmt.Sprintf(", ipv4_prefix: %d", l.IPv4Prefix)
	}
	if l.IPv6Prefix != 0 {
		text += fmt.Sprintf(", ipv6_prefix: %d", l.IPv6Prefix)
	}
	return text + "}"
}

func (a *advice) lists(c *config.Config, s *recommend.Survey) {
	for _, z := range s.Zones() {
		r := &recommendation{Recommendation: admin.Recommendation{Kind: "list", Subject: z.Name, Figures: z, Change: "# filters.dnsbl.zones: without " + z.Name + "\n"},
			adopt: func(c *config.Config) { removeList(c, z.Name) }}
		switch z.Verdict {
		case "never":
			r.Text = fmt.Sprintf("Do without the list %s: it lists nobody.", z.Name)
			r.Reasons = []string{fmt.Sprintf("It was asked %s, and listed none.", counted(z.Answered, "time"))}
		case "much":
			r.Text = fmt.Sprintf("Do without the list %s, or give it fewer points: it lists too much.", z.Name)
			r.Reasons = []string{fmt.Sprintf("It listed %d of %d (%s), and %d of %d (%s) among what was taken by the mail server.", z.Listed, z.Answered,
				percent(z.Listed, z.Answered), z.Among, z.Delivered, percent(z.Among, z.Delivered))}
			if points, ok := pointsOf(c, z.Name); ok {
				r.as = unlisted{z.Name, points}.recording
			} else {
				r.adopt, r.Untried = nil, "its answers have different points, and which one came is not recorded"
			}
		case "failing":
			r.Text = fmt.Sprintf("Look after the list %s: it often does not answer.", z.Name)
			r.Reasons = []string{fmt.Sprintf("It failed %d of %d times (%s). Large lists do not answer public resolvers.", z.Failed, z.Failed+z.Answered, percent(z.Failed, z.Failed+z.Answered))}
			r.adopt, r.Change, r.Untried = nil, "", "there is nothing to adopt"
		default:
			a.fits("list %s: listed %d of %d, %d of them alone", z.Name, z.Listed, z.Answered, z.Alone)
			continue
		}
		a.add(r)
	}
}

func removeList(c *config.Config, name string) {
	settings := *c.Filters["dnsbl"].Settings.(*dnsbl.Config)
	settings.Zones = slices.DeleteFunc(slices.Clone(settings.Zones), func(z dnsbl.Zone) bool { return listName(z) == name })
	setFilter(c, "dnsbl", &settings)
}

func (a *advice) fits(format string, args ...any) {
	a.Fits = append(a.Fits, fmt.Sprintf(format, args...))
}

func (a *advice) add(r *recommendation) { a.Recommendations = append(a.Recommendations, r) }

func percent(part, whole int) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
