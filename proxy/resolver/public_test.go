package resolver

import (
	"net/netip"
	"testing"
)

func TestPublicResolversAreKnown(t *testing.T) {
	for address, whose := range map[string]string{"8.8.8.8": "Google", "::ffff:1.1.1.1": "Cloudflare", "9.9.9.9": "Quad9",
		"2620:fe::fe": "Quad9", "208.67.222.222": "OpenDNS", "127.0.0.1": "", "192.0.2.53": "", "2001:4860:4860::8888": "Google"} {
		if got := PublicName(netip.MustParseAddr(address)); got != whose {
			t.Errorf("%s is %q, want %q", address, got, whose)
		}
	}
}
