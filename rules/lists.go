package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gaissmai/bart"
	"golang.org/x/net/idna"
)

// Lists reads list files for in_list(). A file that does not exist is fs.ErrNotExist.
//
// A list file has one entry a line; `#` starts a comment. For an address an entry is an IP address or a network. For a
// text it is, without regard to case,
//
//	example.org         this domain, or any address in it
//	.example.org        this domain and everything below it, and addresses there
//	@example.org        any address of this domain
//	user@example.org    this address
//
// or any other text without white space, which must then be equal.
type Lists interface {
	ReadList(name string) ([]byte, error)
}

// ListFile is a list file as it was when the rules were compiled.
type ListFile struct {
	Name    string // as rules name it
	Entries int
	Bytes   int
	Missing bool     // there is no such file; it counts as empty
	Rules   []string // those that read it, in the order of the file
}

// Bounds of a list file.
const (
	maxListBytes    = 64 << 20
	maxListEntries  = 1_000_000
	maxListProblems = 20
	// maxName is the longest entry: an address has at most 64 + 1 + 255 bytes (RFC 5321, 4.5.3.1).
	maxName = 320
)

// listCache reads and parses each file once for all rules of a compilation.
type listCache struct {
	lists     Lists
	files     map[string][]byte
	byName    map[string]*nameList
	byAddress map[string]*bart.Lite
	entries   map[string]int
	missing   map[string]bool
}

func newListCache(lists Lists) *listCache {
	if lists == nil {
		return nil
	}
	return &listCache{lists, make(map[string][]byte), make(map[string]*nameList), make(map[string]*bart.Lite), make(map[string]int), make(map[string]bool)}
}

// read returns the content of a file. What is missing is an empty list, with a warning at the first rule that wants it.
func (l *listCache) read(name string, at Pos, p *problems) []byte {
	content, ok := l.files[name]
	if ok {
		return content
	}
	content, err := l.lists.ReadList(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.missing[name] = true
		p.warn(at, "the list file %s does not exist; it counts as empty", quote(name))
	case err != nil:
		p.fail(at, "the list file %s cannot be read: %v", quote(name), err)
	case len(content) > maxListBytes:
		p.fail(at, "the list file %s is larger than %d MiB", quote(name), maxListBytes>>20)
	}
	if err != nil || len(content) > maxListBytes {
		content = nil
	}
	l.files[name] = content
	return content
}

// filesOf are the files that rules read, by name.
func (l *listCache) filesOf(rules []*Rule) (files []ListFile) {
	readers := make(map[string][]string)
	for _, r := range rules {
		for _, name := range r.lists {
			if !slices.Contains(readers[name], r.Name) {
				readers[name] = append(readers[name], r.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(readers)) {
		files = append(files, ListFile{name, l.entries[name], len(l.files[name]), l.missing[name], readers[name]})
	}
	return files
}

func (l *listCache) networks(name string, at Pos, p *problems) *bart.Lite {
	if networks, ok := l.byAddress[name]; ok {
		return networks
	}
	networks := new(bart.Lite)
	l.byAddress[name] = networks
	l.entries[name] = eachEntry(name, l.read(name, at, p), p, func(entry string) error {
		network, err := parseNetwork(entry)
		if err == nil {
			networks.Insert(network)
		}
		return err
	})
	return networks
}

func (l *listCache) names(name string, at Pos, p *problems) *nameList {
	if names, ok := l.byName[name]; ok {
		return names
	}
	names := &nameList{make(map[string]struct{})}
	l.byName[name] = names
	l.entries[name] = eachEntry(name, l.read(name, at, p), p, func(entry string) error {
		entry, err := parseName(entry)
		if err == nil {
			names.entries[entry] = struct{}{}
		}
		return err
	})
	return names
}

// eachEntry calls add for every entry and reports what it says against, with its line. It returns how many there are.
func eachEntry(name string, content []byte, p *problems, add func(entry string) error) (entries int) {
	complaints, number := 0, 0
	complain := func(column int, err error) bool {
		p.fail(Pos{File: name, Line: number, Column: column}, "%v", err)
		complaints++
		return complaints < maxListProblems
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	for line := range bytes.Lines(content) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		entry := bytes.TrimSpace(line)
		if len(entry) == 0 {
			continue
		}
		column := utf8.RuneCount(line[:bytes.Index(line, entry)]) + 1
		entries++
		if entries > maxListEntries {
			complain(column, fmt.Errorf("the list has more than %d entries", maxListEntries))
			return entries
		}
		err := checkEntry(entry)
		if err == nil {
			err = add(string(entry))
		}
		if err != nil && !complain(column, err) {
			return entries
		}
	}
	return entries
}

func checkEntry(entry []byte) error {
	switch {
	case len(entry) > maxName:
		return fmt.Errorf("the entry is longer than %d bytes", maxName)
	case !utf8.Valid(entry):
		return errors.New("the entry is not UTF-8")
	case bytes.ContainsFunc(entry, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("one entry a line, without white space; # starts a comment")
	}
	return nil
}

// parseName checks and folds an entry for texts.
func parseName(entry string) (string, error) {
	local, domain := "", entry
	if at := strings.LastIndexByte(entry, '@'); at >= 0 {
		local, domain = entry[:at+1], entry[at+1:]
	} else if rest, ok := strings.CutPrefix(entry, "."); ok {
		local, domain = ".", rest
	}
	if local == "" && isASCII(domain) {
		return strings.TrimSuffix(lowerASCII(domain), "."), nil
	}
	domain, err := parseDomain(domain)
	return lowerASCII(local) + domain, err
}

// parseDomain checks a domain and returns it in lower case, without a final dot.
func parseDomain(s string) (string, error) {
	domain := strings.TrimSuffix(lowerASCII(s), ".")
	switch {
	case !isASCII(domain):
		ascii, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(domain)
		if err != nil {
			return "", fmt.Errorf("%s is not a domain", quote(s))
		}
		return "", fmt.Errorf("%s must be written as it is in the DNS: %s", quote(s), ascii)
	case strings.HasPrefix(domain, "*."), strings.HasPrefix(domain, "."):
		return "", fmt.Errorf("%s: write the domain alone, what is below it is meant too", quote(s))
	case !isDomain(domain):
		return "", fmt.Errorf("%s is not a domain", quote(s))
	}
	return domain, nil
}

// isDomain takes underscores too: there are hosts with such names, however wrong (RFC 1123, 2.1).
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// domainOf is what stands behind the last @, or all of it, without a final dot.
func domainOf(s string) string {
	return strings.TrimSuffix(s[strings.LastIndexByte(s, '@')+1:], ".")
}

// nameList is a list file for texts: its entries, folded. Immutable once filled.
type nameList struct{ entries map[string]struct{} }

// has folds into a buffer on the stack, with room for a dot in front, and looks up the whole, then @domain, domain, and
// .domain with fewer and fewer labels.
func (l *nameList) has(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxName || len(l.entries) == 0 {
		return false
	}
	var buffer [1 + maxName]byte
	name := appendLower(append(buffer[:0], '.'), s)
	if l.entry(name[1:]) {
		return true
	}
	if at := bytes.LastIndexByte(name, '@'); at > 0 {
		name = name[at:]
		if l.entry(name) || l.entry(name[1:]) {
			return true
		}
		name[0] = '.'
	}
	for {
		if l.entry(name) {
			return true
		}
		dot := bytes.IndexByte(name[1:], '.')
		if dot < 0 {
			return false
		}
		name = name[1+dot:]
	}
}

func (l *nameList) entry(name []byte) bool {
	_, ok := l.entries[string(name)]
	return ok
}
