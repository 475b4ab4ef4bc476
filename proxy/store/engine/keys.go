package engine

import (
	"fmt"
	"hash/fnv"
	"strings"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// Versions that keys carry: of marks, and of all else.
const (
	markLayout = "2"
	layout     = "1"
)

const (
	bucketCode = "r"
	probeCode  = "!"
)

// largeSpaces are those with a mark for each of many senders; code is what stands for them in names. Any other space is
// spread over few hashes, so that all its marks can be read in one round trip.
var largeSpaces = map[string]string{"greylist": "g", "known": "k", "client": "c"}

// groupedSpaces are those whose keys are looked for by their beginning while mail waits: all that begin with the same word,
// up to the first blank, are in one hash, of as many as a large space has.
var groupedSpaces = map[string]bool{"delivery": true}

// firstWord is the word, if a prefix has all of it and its keys are in one hash.
func firstWord(space, prefix string) (word string, ok bool) {
	word, _, ok = strings.Cut(prefix, " ")
	return word, ok && groupedSpaces[space]
}

const (
	largePlaces = 16384 // hashes of a large space: at 50,000 senders there are three in each, at 2,000,000 no more than 128
	smallPlaces = 64
)

// keys writes and reads names of keys.
type keys struct{ prefix, marks string }

func newKeys(prefix string) keys { return keys{prefix: prefix + layout, marks: prefix + markLayout} }

// address is where a mark is kept: in a field of a hash, or under a key of its own.
type address struct {
	own    string // the same as bucket: there is none
	bucket string
	field  string
	place  string // the hash tag of both
}

// mark is the address of a key as Range and Each give it.
func (k keys) mark(space, key string) address {
	place, code := markPlace(space, key), spaceCode(space)
	a := address{bucket: k.marks + code + place, field: key, place: place}
	a.own = a.bucket
	if isLarge(space) {
		a.own = a.bucket + key
	}
	return a
}

// id tells addresses apart.
func (a *address) id() string { return a.bucket + a.field }

// addresses are those of keys that name has shortened.
func (k keys) addresses(space string, keys []string, name func(key string) string) []address {
	list := make([]address, len(keys))
	for i, key := range keys {
		list[i] = k.mark(space, name(key))
	}
	return list
}

// markPlace is the hash tag of a mark: keys of one home have one.
func markPlace(space, key string) string {
	switch {
	case isLarge(space):
		return fmt.Sprintf("{%04x}", hash(filters.Home(key))%largePlaces)
	case groupedSpaces[space]:
		word, _, _ := strings.Cut(key, " ")
		return fmt.Sprintf("{%04x}", hash(word)%largePlaces)
	}
	return fmt.Sprintf("{%02x}", hash(filters.Home(key))%smallPlaces)
}

func hash(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return h.Sum32()
}

// buckets are all hashes of a small space.
func (k keys) buckets(space string) []string {
	list := make([]string, smallPlaces)
	for i := range list {
		list[i] = fmt.Sprintf("%s%s{%02x}", k.marks, spaceCode(space), i)
	}
	return list
}

// bucket is the name of a rate limit's key. All of one client live together.
func (k keys) bucket(b filters.Bucket) string {
	return k.prefix + bucketCode + tag(b.Of) + b.Limit
}

// probe is the name of a key that lives where the hash tag says.
func (k keys) probe(tag string) string { return k.prefix + probeCode + tag }

// Place is the hash tag of what a decision about key needs: a mark of space, or a standing if that is empty. [Engine.Probe]
// takes it.
func Place(space, key string) string {
	key = store.Shorten(key)
	if space == "" {
		return placeOf(key)
	}
	return markPlace(space, key)
}

// LimitPlace is Place of a bucket.
func LimitPlace(b filters.Bucket) string { return tag(b.Of) }

// parse reads what mark wrote: the name of a bucket, or of a mark's own key. ok is false for anything else.
func (k keys) parse(name string) (space, key string, isBucket, ok bool) {
	rest, ok := strings.CutPrefix(name, k.marks)
	if !ok {
		return "", "", false, false
	}
	code, rest, ok := strings.Cut(rest, "{")
	if !ok {
		return "", "", false, false
	}
	_, key, ok = strings.Cut(rest, "}")
	space, known := spaceOf(code)
	return space, key, key == "", ok && known
}

func isLarge(space string) bool { return largeSpaces[space] != "" }

func spaceCode(space string) string {
	if code := largeSpaces[space]; code != "" {
		return code
	}
	return ":" + escape.Replace(space) + ":"
}

func spaceOf(code string) (space string, ok bool) {
	for space, c := range largeSpaces {
		if c == code {
			return space, true
		}
	}
	if len(code) > 2 && code[0] == ':' && code[len(code)-1] == ':' {
		return unescape.Replace(code[1 : len(code)-1]), true
	}
	return "", false
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
