package dmarc

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// maxName is the length of a domain name in presentation form (RFC 1035, 2.3.4).
const maxName = 253

// lookupNames maps U-labels to A-labels. Underscores are no host names, but occur in mail domains.
var lookupNames = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// asciiName gives a domain with A-labels and in lower case, or false for what is no domain.
func asciiName(name string) (string, bool) {
	if len(name) > 4*maxName || !utf8.ValidString(name) {
		return "", false
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= utf8.RuneSelf {
			mapped, err := lookupNames.ToASCII(name)
			if err != nil {
				return "", false
			}
			name = mapped
			break
		}
	}
	name = strings.ToLower(name)
	return name, isName(name)
}

// isName tells letters, digits, hyphens and underscores in labels of 1 to 63.
func isName(name string) bool {
	if len(name) > maxName {
		return false
	}
	label := 0
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.' && label > 0:
			label = 0
		case (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') && label < 63:
			label++
		default:
			return false
		}
	}
	return label > 0
}

// isWithin tells whether name is domain or below it.
func isWithin(name, domain string) bool {
	above, found := strings.CutSuffix(name, domain)
	return found && (above == "" || strings.HasSuffix(above, "."))
}

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
