package filters

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxName is the length of a domain name in presentation form (RFC 1035, 2.3.4).
const MaxName = 253

// lookupNames maps U-labels to A-labels. Underscores are no host names, but selectors and mail domains have them.
var lookupNames = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// ASCIIName gives a domain name with A-labels (RFC 8616, 5) and in lower case, or false for what is no name. idna alone
// would replace what is no UTF-8 without a word.
func ASCIIName(name string) (string, bool) {
	if len(name) > 4*MaxName || !utf8.ValidString(name) {
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
	return name, IsName(name)
}

// IsName tells labels of 1 to 63 lower-case letters, digits, hyphens and underscores.
func IsName(name string) bool {
	if len(name) > MaxName {
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

// IsWithin tells whether name is domain or below it. Both are as ASCIIName gives them.
func IsWithin(name, domain string) bool {
	above, found := strings.CutSuffix(name, domain)
	return found && (above == "" || strings.HasSuffix(above, "."))
}
