package policy

import (
	"context"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/filters/authres"
)

// AuthenticationResults is the section `authentication_results:`.
type AuthenticationResults struct {
	// Which Authentication-Results fields of an incoming message are removed: `ours` (those that claim to be from our
	// hostname, in whatever spelling, and those that do not tell whose they are), or `all`, for mailboxes whose
	// programs believe whatever field they find. A signature that covers a removed field breaks.
	Remove string `yaml:"remove" values:"ours all"`
}

// The values of AuthenticationResults.Remove.
const (
	RemoveOurs = "ours"
	RemoveAll  = "all"
)

// DefaultAuthenticationResults returns the section where nothing is configured.
func DefaultAuthenticationResults() AuthenticationResults {
	return AuthenticationResults{Remove: RemoveOurs}
}

// Validate checks the section.
func (a *AuthenticationResults) Validate() error {
	var errs filters.KeyErrors
	if a.Remove != RemoveOurs && a.Remove != RemoveAll {
		errs.Add("remove", "%q is neither ours nor all", a.Remove)
	}
	return errs.OrNil()
}

// authenticationResults is our field, or nothing when no filter that could tell something has told it. The field is
// for those who read it after us, so what belongs into it is waited for.
func (g *Gate) authenticationResults(ctx context.Context) []byte {
	if !g.engine.reportsAuth {
		return nil
	}
	var room [8]filters.AuthResult // on the stack: the list was 5 % of all that a message with all filters allocates
	results, told := room[:0], false
	for i, o := range g.engine.observations {
		if !o.reports {
			continue
		}
		for g.slot(i).status == running {
			g.await(ctx, i)
		}
		if g.slot(i).status != succeeded {
			continue
		}
		if reporter, ok := g.judged().Group(o.group).(filters.AuthReporter); ok {
			results, told = supersede(results, reporter.AuthResults(g.session)), true
		}
	}
	if !told {
		return nil
	}
	return authres.Format(g.engine.hostname, results)
}

// supersede appends the results of an observation. Where an earlier one has judged the very same thing, as SPF does with
// the HELO name at HELO and again for a bounce, the later result stands alone: two would be one too many if they differ.
func supersede(results, later []filters.AuthResult) []filters.AuthResult {
	results = slices.DeleteFunc(results, func(earlier filters.AuthResult) bool {
		return slices.ContainsFunc(later, func(r filters.AuthResult) bool {
			same := len(r.Properties) > 0 || r.Result == earlier.Result && r.Reason == earlier.Reason
			return same && r.Method == earlier.Method && slices.Equal(r.Properties, earlier.Properties)
		})
	})
	return append(results, later...)
}

// drops tells of the inbound Authentication-Results that must not get through: those that claim to be ours, since whoever
// reads them behind us would take them for our word (RFC 8601, 5), or all of them.
func (e *Engine) drops(f *filters.Field) bool {
	return strings.EqualFold(f.Name, "Authentication-Results") && (e.removeAllResults || authres.ClaimsToBe(f.Raw, e.hostname))
}
