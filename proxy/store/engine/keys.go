package engine

import (
	"strings"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// layout is the version that every key carries.
const layout = "1"

// greylistCode stands for the space that nearly all marks are in.
const (
	greylistSpace = "greylist"
	greylistCode  = "g"
	bucketCode    = "r"
	probeCode     = "!"
)

// keys writes and reads names of keys.
type keys struct{ prefix string }

func newKeys(prefix string) keys { return keys{prefix + layout} }

// mark is the name of a mark's key.
func (k keys) mark(space, key string) string {
	return k.stored(space, store.Shorten(key))
}

// stored is mark of a key as Range and Each give it.
func (k keys) stored(space, key string) string {
	home := filters.Home(key)
	return k.prefix + spaceCode(space) + tag(home) + key[:len(key)-len(home)]
}

// bucket is the name of a bucket's key. All buckets of one client live together.
func (k keys) bucket(b filters.Bucket) string {
	return k.prefix + bucketCode + tag(b.Of) + b.Limit
}

// probe is the name of a key that lives where home does.
func (k keys) probe(home string) string { return k.prefix + probeCode + tag(home) }

// parse reads what mark wrote; ok is false for anything else.
func (k keys) parse(name string) (space, key string, ok bool) {
	rest, ok := strings.CutPrefix(name, k.prefix)
	if !ok {
		return "", "", false
	}
	code, rest, ok := strings.Cut(rest, "{")
	if !ok {
		return "", "", false
	}
	home, rest, ok := strings.Cut(rest, "}")
	if !ok {
		return "", "", false
	}
	switch {
	case code == greylistCode:
		space = greylistSpace
	case len(code) > 2 && code[0] == ':' && code[len(code)-1] == ':':
		space = unescape.Replace(code[1 : len(code)-1])
	default:
		return "", "", false
	}
	if home == emptyHome {
		home = ""
	}
	return space, rest + unescape.Replace(home), true
}

func spaceCode(space string) string {
	if space == greylistSpace {
		return greylistCode
	}
	return ":" + escape.Replace(space) + ":"
}

// emptyHome stands for the home of the empty key: an empty hash tag is none.
const emptyHome = "%"

func tag(home string) string {
	if home == "" {
		return "{" + emptyHome + "}"
	}
	return "{" + escape.Replace(home) + "}"
}

var (
	escape   = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D")
	unescape = strings.NewReplacer("%25", "%", "%7B", "{", "%7D", "}")
)

// glob is s as a pattern of SCAN that matches it alone.
var glob = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`)
