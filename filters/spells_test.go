package filters

import (
	"net/netip"
	"testing"
)

func TestSpellsAddress(t *testing.T) {
	for name, clients := range map[string][2]string{ // who has such a name by his address, and who has not
		"192-0-2-7.access.example":                         {"192.0.2.7", "198.51.100.4"},
		"dyn007.002.192.isp.example":                       {"192.0.2.7", "192.51.100.4"},
		"host192000002007.example":                         {"192.0.2.7", "192.0.33.44"},
		"c0000207.example":                                 {"192.0.2.7", "192.0.2.8"},
		"mail7.example.org":                                {"", "192.0.2.7"},
		"a1234.b192.c0.example":                            {"", "192.0.123.4"},
		"20010db8000000010000000000000005.example":         {"2001:db8:0:1::5", "2001:db8:0:2::6"},
		"2001-db8-0-1234-0-0-0-5678.example":               {"2001:db8:0:1234::5678", "2001:db8:0:4321::8765"},
		"1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.7.192.2.a": {"192.0.2.7", "203.0.113.99"},
		"": {"", "192.0.2.7"},
	} {
		for i, client := range clients {
			if client != "" && SpellsAddress(name, netip.MustParseAddr(client)) != (i == 0) {
				t.Errorf("%q of %s: %v", name, client, i != 0)
			}
		}
	}
}

func TestSpellsAddressAllocates(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.7")
	if n := testing.AllocsPerRun(100, func() { SpellsAddress("mail-17.some-198.51.example.org", client) }); n > 1 {
		t.Errorf("%.0f allocations", n)
	}
}
