package called

import (
	"net"
	"net/netip"
	"testing"
)

func TestPeers(t *testing.T) {
	for _, test := range []struct {
		peers, from string
		want        bool
	}{
		{"", "127.0.0.1", true}, {"", "::1", true}, {"", "192.0.2.1", false}, {"192.0.2.0/24", "192.0.2.1", true}, {"192.0.2.0/24", "127.0.0.1", false},
	} {
		var l Listen
		if test.peers != "" {
			l.Peers = append(l.Peers, netip.MustParsePrefix(test.peers))
		}
		if got := l.accepts(&net.TCPAddr{IP: net.ParseIP(test.from), Port: 1}); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}
