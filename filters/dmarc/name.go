package dmarc

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// lastLabels cuts name down to its last n labels.
func lastLabels(name string, n int) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			if n--; n == 0 {
				return name[i+1:]
			}
		}
	}
	return name
}

func countLabels(name string) int { return strings.Count(name, ".") + 1 }

// listedOrganization is the organizational domain of RFC 7489, 3.2: one label more than the public suffix. A public
// suffix has none.
func listedOrganization(name string) (string, bool) {
	organization, err := publicsuffix.EffectiveTLDPlusOne(name)
	return organization, err == nil
}
