package backend

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/proxy/backend/backendtest"
)

func examine(t *testing.T, way ClientAddress, b backendtest.Behaviour, senders ...string) Examination {
	t.Helper()
	c := Default()
	c.Address, c.ClientAddress = []string{start(t, b).Address()}, way
	found, err := Examine(testContext(t), c, Options{Hostname: "mx.example.org", DomainsConfigured: true}, senders...)
	if err != nil || len(found) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	return found[0]
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestExamineABackendInOrder(t *testing.T) {
	x := examine(t, XClient, backendtest.Behaviour{Hostname: "back.test", Domains: []string{"example.org"}, Relay: loopback}, "<a@example.org>")
	if x.Err != nil || !strings.Contains(x.Banner, "back.test") || !strings.Contains(x.Hello, "back.test") || !x.Extensions.Pipelining {
		t.Errorf("%+v", x)
	}
	if len(x.Relay) != 2 || x.Relay[0].Sender != "<>" || x.Relay[1].Sender != "<a@example.org>" {
		t.Fatalf("relay %+v", x.Relay)
	}
	for _, r := range x.Relay {
		if r.Accepted || r.Err != nil || r.Reply.Class() != 5 {
			t.Errorf("relay %+v", r)
		}
	}
	if !x.Own.Accepted || x.Own.Err != nil { // so the stranger's address has arrived
		t.Errorf("own %+v", x.Own)
	}
}

func TestExamineFindsARelayForAStranger(t *testing.T) {
	everybody := backendtest.Behaviour{Domains: []string{"example.org"}, Relay: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	if x := examine(t, XClient, everybody); len(x.Relay) != 1 || !x.Relay[0].Accepted {
		t.Errorf("%+v", x)
	}
	everybody.Proxy = backendtest.ProxyV2
	if x := examine(t, ProxyV2, everybody); len(x.Relay) != 1 || !x.Relay[0].Accepted {
		t.Errorf("%+v", x)
	}
}

// A server that lets everybody relay who claims to be local refuses the null sender.
func TestExamineTriesOwnSenders(t *testing.T) {
	local := false
	x := examine(t, XClient, backendtest.Behaviour{Domains: []string{"example.org"}, Answer: func(_ *backendtest.Session, line string) string {
		if strings.HasPrefix(line, "MAIL") {
			local = strings.Contains(line, "@example.org")
		}
		if local && strings.HasPrefix(line, "RCPT") {
			return "250 2.1.5 Ok"
		}
		return ""
	}}, "<postmaster@example.org>")
	if len(x.Relay) != 2 || x.Relay[0].Accepted || !x.Relay[1].Accepted {
		t.Errorf("%+v", x.Relay)
	}
}

func TestExamineAsksNothingWithoutHandOver(t *testing.T) {
	if x := examine(t, NoAddress, backendtest.Behaviour{}); x.Err != nil || len(x.Relay) != 0 || x.Own.Sender != "" {
		t.Errorf("%+v", x)
	}
}

func TestExamineTellsWhyThereIsNoSession(t *testing.T) {
	x := examine(t, XClient, backendtest.Behaviour{Hostname: "back.test", XClient: backendtest.XClientNever})
	wantError(t, x.Err, "XCLIENT", "smtpd_authorized_xclient_hosts")
	if !strings.Contains(x.Banner, "back.test") || len(x.Relay) != 0 {
		t.Errorf("%+v", x)
	}
}
