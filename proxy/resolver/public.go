package resolver

import "net/netip"

// publicResolvers are those that serve the whole world, and that the large lists do not answer. Spamhaus and others name
// them; a local one that asks them in its turn is found out by what the lists say.
var publicResolvers = map[string][]netip.Prefix{
	"Google":             networks("8.8.8.8/32", "8.8.4.4/32", "2001:4860:4860::/48"),
	"Cloudflare":         networks("1.1.1.0/24", "1.0.0.0/24", "2606:4700:4700::/48"),
	"Quad9":              networks("9.9.9.0/24", "149.112.112.0/24", "2620:fe::/48"),
	"OpenDNS":            networks("208.67.220.0/23", "208.67.222.0/23", "2620:119::/32"),
	"Level 3":            networks("4.2.2.0/29", "209.244.0.3/32", "209.244.0.4/32"),
	"Verisign":           networks("64.6.64.6/32", "64.6.65.6/32"),
	"AdGuard":            networks("94.140.14.0/24", "94.140.15.0/24", "2a10:50c0::/32"),
	"CleanBrowsing":      networks("185.228.168.0/23", "2a0d:2a00::/32"),
	"Yandex":             networks("77.88.8.0/24", "2a02:6b8::feed:0/112"),
	"DNS.WATCH":          networks("84.200.69.80/32", "84.200.70.40/32"),
	"Hurricane Electric": networks("74.82.42.42/32", "2001:470:20::2/128"),
	"AliDNS":             networks("223.5.5.5/32", "223.6.6.6/32"),
	"114DNS":             networks("114.114.114.114/32", "114.114.115.115/32"),
}

func networks(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		list[i] = netip.MustParsePrefix(t)
	}
	return list
}

// PublicName is whose public resolver an address is, or empty.
func PublicName(a netip.Addr) string {
	for name, prefixes := range publicResolvers {
		for _, p := range prefixes {
			if p.Contains(a.Unmap()) {
				return name
			}
		}
	}
	return ""
}
