package arc

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxName is the length of a domain name in presentation form (RFC 1035, 2.3.4).
const maxName = 253

// lookupNames maps U-labels to A-labels. Selectors have underscores, which host names have not.
var lookupNames = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// asciiName gives a domain or selector with A-labels (RFC 8616, 5) and in lower case, or false for what is no name.
func asciiName(name string) (string, bool) {
	// idna replaces what is no UTF-8 without a word.
	if len(name) > maxName || !utf8.ValidString(name) {
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
	return label > 0 && len(name) <= maxName
}
