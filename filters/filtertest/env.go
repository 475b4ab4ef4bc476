package filtertest

import (
	"log/slog"
	"net/netip"

	"gatepost/filters"
)

// NewEnv returns an Env for mx.example.org, which takes mail for example.org, with the given DNS, an empty [Store], a
// [Clock] at [Start] and a logger that discards.
func NewEnv(resolver filters.Resolver) filters.Env {
	clock := NewClock()
	return filters.Env{
		Hostname: "mx.example.org",
		Domains:  []string{"example.org"},
		Resolver: resolver,
		Store:    NewStore(clock),
		Clock:    clock,
		Log:      slog.New(slog.DiscardHandler),
	}
}

// Connected is the view at [filters.AtConnect] of a client at this address, which connected to 192.0.2.25:25 (or
// [2001:db8::25]:25).
func Connected(client string) filters.View {
	addr := netip.MustParseAddr(client)
	local := netip.MustParseAddrPort("192.0.2.25:25")
	if addr.Is6() && !addr.Is4In6() {
		local = netip.MustParseAddrPort("[2001:db8::25]:25")
	}
	port := netip.AddrPortFrom(addr, 40000)
	return filters.View{
		Session: &filters.Session{ID: "s1", Client: filters.ClientAt(port), To: &local, Accepted: Start},
		Facts:   Facts{},
	}
}

// Greeted is [Connected] after EHLO helo.
func Greeted(client, helo string) filters.View {
	v := Connected(client)
	v.Greeting = &filters.Greeting{Name: helo, Extended: filters.Known(true)}
	return v
}

// Mailed is [Greeted] after MAIL FROM:<sender>.
func Mailed(client, helo, sender string) filters.View {
	v := Greeted(client, helo)
	v.Envelope = &filters.Envelope{ID: "t1", ReversePath: sender, Started: Start}
	return v
}

// Proved is [Mailed] with what SPF says: pass for a domain, by a record that not everybody may send by, or none where that
// is empty.
func Proved(client, sender, domain string) filters.View {
	v := Mailed(client, "helo.example.com", sender)
	v.Facts = Facts{"spf.result": "none"}
	if domain != "" {
		v.Facts = Facts{"spf.result": "pass", "spf.domain": domain, "spf.wide": false}
	}
	return v
}
