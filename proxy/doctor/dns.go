package doctor

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gatepost/filters"
	"gatepost/filters/dnsbl"
	"gatepost/proxy/resolver"
)

// slowAnswer is how long an answer out of the server's own cache may take.
const slowAnswer = 50 * time.Millisecond

const ownResolver = "run a recursive resolver of your own, such as unbound on 127.0.0.1, and name it in resolver.servers"

func (x *examiner) checkResolver(ctx context.Context, f *findings) {
	servers, err := resolver.Examine(ctx, x.Config.Resolver)
	if err != nil {
		f.add(Error, "resolver", "there is no DNS server to ask").saw("%v", err).advise("%s", ownResolver)
		return
	}
	for _, s := range servers {
		at, failed := s.Server.String(), len(f.list)
		switch {
		case s.Err != nil:
			f.add(Error, at, "does not answer as it should").saw("%v", s.Err).
				advise("start it, let this machine ask it, or take it out of resolver.servers or /etc/resolv.conf")
			continue
		case !s.Recurses:
			f.add(Error, at, "does not recurse: it knows its own zones alone").saw("RA is not set in its answer").advise("%s", ownResolver)
		case resolver.PublicName(s.Server.Addr()) != "" && len(x.zones()) > 0:
			f.add(Error, at, "is a public resolver (%s): large block lists do not answer it, or list everybody", resolver.PublicName(s.Server.Addr())).
				advise("%s", ownResolver)
		case resolver.PublicName(s.Server.Addr()) != "":
			f.add(Warning, at, "is a public resolver (%s): it limits how much one may ask, and block lists would not answer it", resolver.PublicName(s.Server.Addr())).
				advise("%s", ownResolver)
		}
		if s.Took > slowAnswer {
			f.add(Warning, at, "is slow: every message waits for a dozen answers").saw("%s for an answer that it had in its cache", round(s.Took)).
				advise("%s", ownResolver)
		}
		if s.TCP != nil {
			f.add(Warning, at, "does not answer over TCP: long records, such as large SPF and DKIM ones, cannot be read").saw("%v", s.TCP).
				advise("open port 53 of it for TCP (RFC 7766)")
		}
		if !s.Validates {
			f.add(Notice, at, "does not validate DNSSEC: forged answers are taken for good").saw("AD is not set in the answer for arpa, which is signed").
				advise("switch validation on (unbound: auto-trust-anchor-file; BIND: dnssec-validation auto)")
		}
		if len(f.list) == failed {
			f.add(OK, at, "answers, recurses and validates DNSSEC").saw("%s for an answer from its cache", round(s.Took))
		}
	}
}

// zones are the lists in use.
func (x *examiner) zones() []dnsbl.Zone {
	c := x.Config.Filters["dnsbl"]
	if settings, ok := c.Settings.(*dnsbl.Config); ok && c.Common.Enabled {
		return settings.Zones
	}
	return nil
}

func (x *examiner) checkLists(ctx context.Context, f *findings) {
	zones := x.zones()
	if len(zones) == 0 {
		f.add(Notice, "filters.dnsbl", "no block list is asked").advise("name one or two under filters.dnsbl.zones; filters/dnsbl/README.md has examples")
		return
	}
	if x.dns == nil {
		f.add(Error, "filters.dnsbl", "the lists could not be asked: there is no DNS server")
		return
	}
	env := filters.Env{Resolver: x.dns, Clock: filters.SystemClock{}, Log: slog.New(slog.DiscardHandler)}
	for _, h := range dnsbl.Examine(ctx, dnsbl.Config{Zones: zones}, env) {
		subject := h.List + " (" + h.About + ")"
		switch {
		case h.Reason != "":
			f.add(Error, subject, "is left out").saw("RFC 5782, 5: %s", h.Reason).advise("%s", listAdvice)
		case !h.Tested:
			f.add(Notice, subject, "is not tested (test: off): nothing protects you from it if it lists everybody")
		case !h.Answered:
			f.add(Error, subject, "did not answer about its test points").saw("no answer within %s", round(h.Took)).
				advise("if other lists answer, it is out of order: remove it if that lasts; else look at the resolver")
		case h.Unused:
			f.add(OK, subject, "is not asked: it does not list the test point for IPv6")
		default:
			f.add(OK, subject, "lists its test point and not its counterpart").saw("answered in %s", round(h.Took))
		}
	}
}

const listAdvice = "correct or remove the zone; until then the filter does without it"

var errNoDNS = errors.New("there is no DNS server")

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
