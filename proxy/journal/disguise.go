package journal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"hash"
	"strings"
)

// Addresses says how mail addresses are kept: a word under `journal.addresses`.
type Addresses uint8

const (
	Clear Addresses = iota // as they are
	Keyed                  // the local part as a keyed hash
	Cut                    // the domain alone
)

var addressesNames = [...]string{Clear: "clear", Keyed: "keyed", Cut: "cut"}

// String is the word of the configuration.
func (a Addresses) String() string { return addressesNames[a] }

// UnmarshalText takes clear, keyed or cut.
func (a *Addresses) UnmarshalText(text []byte) error {
	for i, name := range addressesNames {
		if string(text) == name {
			*a = Addresses(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of clear, keyed, cut", text)
}

// MarshalText writes the word.
func (a Addresses) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// disguise hides local parts in what is kept. It is used by one goroutine at a time. A nil one hides nothing.
//
// It takes every word before an "@" for a local part, and looks for the local parts of the transaction at hand by
// themselves, too: a mail server that refuses may repeat them in any form. Those of RFC 2142 that every domain has to
// answer (postmaster, abuse) name nobody, and the default rules read them: they stay.
type disguise struct {
	mode   Addresses
	mac    hash.Hash         // keyed only
	tokens map[string]string // by local part in lower case, for one block
	words  map[string]bool   // local parts of the record at hand, in lower case
	odd    []string          // those that are no word
	seal   []byte
}

func newDisguise(mode Addresses, key []byte) *disguise {
	if mode == Clear {
		return nil
	}
	d := &disguise{mode: mode, tokens: map[string]string{}, words: map[string]bool{}}
	if mode == Keyed {
		d.mac = hmac.New(sha256.New, key)
	}
	return d
}

// nextBlock forgets tokens, so that what is remembered stays small.
func (d *disguise) nextBlock() {
	if d != nil {
		clear(d.tokens)
	}
}

// nextRecord forgets whose addresses are looked for.
func (d *disguise) nextRecord() {
	if d != nil {
		clear(d.words)
		d.odd = d.odd[:0]
	}
}

// watch has the local part of an address looked for in all texts of the record.
func (d *disguise) watch(address string) {
	if d == nil || address == "" {
		return
	}
	local, _ := splitAddress(address)
	for _, form := range []string{local, strings.Trim(local, `"`)} {
		switch {
		case form == "" || isRole(form):
		case strings.IndexFunc(form, notWord) < 0:
			d.words[strings.ToLower(strings.TrimRight(form, "."))] = true
		default:
			d.odd = append(d.odd, form)
		}
	}
}

// splitAddress keeps what has no "@" as a local part: a user's name, `postmaster`.
func splitAddress(address string) (local, domain string) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address, ""
	}
	return address[:at], address[at:]
}

func isRole(local string) bool {
	return strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "abuse")
}

// address hides the local part of a whole address.
func (d *disguise) address(address string) string {
	if d == nil || address == "" {
		return address
	}
	local, domain := splitAddress(address)
	return d.local(local) + domain
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tokenBytes is how much of the hash is kept: enough that two local parts of one site never share a token by chance.
const tokenBytes = 10

// local returns what stands for a local part. A token begins with "~", so that a reader can tell.
func (d *disguise) local(local string) string {
	if local == "" || isRole(local) {
		return local
	}
	if d.mode == Cut {
		return "*"
	}
	local = strings.ToLower(local)
	token, ok := d.tokens[local]
	if !ok {
		d.mac.Reset()
		d.mac.Write([]byte(local))
		d.seal = d.mac.Sum(d.seal[:0])
		token = "~" + base32Lower.EncodeToString(d.seal[:tokenBytes])
		d.tokens[strings.Clone(local)] = token
	}
	return token
}

// text hides local parts wherever they stand in a text.
func (d *disguise) text(s string) string {
	if d == nil || s == "" {
		return s
	}
	for _, odd := range d.odd {
		s = d.replaceFold(s, odd)
	}
	var b strings.Builder
	kept := 0 // up to here s is in b
	for i := 0; i < len(s); {
		if notAtomByte(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && !notAtomByte(s[i]) {
			i++
		}
		if i < len(s) && s[i] == '@' {
			b.WriteString(s[kept:start])
			b.WriteString(d.local(s[start:i]))
			kept = i
			continue
		}
		kept = d.hideWords(&b, s, kept, start, i)
	}
	if kept == 0 {
		return s
	}
	b.WriteString(s[kept:])
	return b.String()
}

// hideWords looks at the words in s[start:end], which no "@" follows.
func (d *disguise) hideWords(b *strings.Builder, s string, kept, start, end int) int {
	for start < end {
		if notWord(rune(s[start])) {
			start++
			continue
		}
		stop := start
		for stop < end && !notWord(rune(s[stop])) {
			stop++
		}
		word := strings.TrimRight(s[start:stop], ".")
		if word != "" && d.words[strings.ToLower(word)] {
			b.WriteString(s[kept:start])
			b.WriteString(d.local(word))
			kept = start + len(word)
		}
		start = stop
	}
	return kept
}

// replaceFold hides every occurrence of a local part that is no word, whatever the case of its letters.
func (d *disguise) replaceFold(s, part string) string {
	for from := 0; ; {
		i := indexFold(s[from:], part)
		if i < 0 {
			return s
		}
		token := d.local(part)
		s = s[:from+i] + token + s[from+i+len(part):]
		from += i + len(token)
	}
}

func indexFold(s, part string) int {
	for i := 0; i+len(part) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(part)], part) {
			return i
		}
	}
	return -1
}

// notWord tells what cannot be in a word: words are looked for one by one. A byte of a longer character counts as part
// of one.
func notWord(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '+', r == '-', r >= 0x80:
		return false
	}
	return true
}

// notAtomByte tells what ends a local part on its left: what is neither an atom's (RFC 5322, 3.2.3) nor a dot.
func notAtomByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x80:
		return false
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0
}
