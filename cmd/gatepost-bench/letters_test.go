package main

import (
	"bytes"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

func TestLetters(t *testing.T) {
	l, err := writeLetters()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.small) != 4<<10 || len(l.large) != 1<<20 {
		t.Errorf("sizes %d and %d", len(l.small), len(l.large))
	}
	for name, letter := range map[string][]byte{"small": l.small, "signed": l.smallSigned, "large": l.large, "large and signed": l.largeSigned} {
		if !bytes.HasSuffix(letter, []byte("\r\n")) || bytes.HasPrefix(letter, []byte(".")) || bytes.Contains(letter, []byte("\n.")) {
			t.Errorf("%s: not as it must be on the wire", name)
		}
		if bytes.Count(letter, []byte("\n")) != bytes.Count(letter, []byte("\r\n")) || bytes.Count(letter, []byte("\r")) != bytes.Count(letter, []byte("\r\n")) {
			t.Errorf("%s: bare CR or LF", name)
		}
	}
	lookup := func(name string) ([]string, error) {
		if name+"." != keyName {
			t.Errorf("key asked for at %s, it is at %s", name, keyName)
		}
		return []string{l.keyRecord}, nil
	}
	for _, signed := range [][]byte{l.smallSigned, l.largeSigned} {
		found, err := dkim.VerifyWithOptions(bytes.NewReader(signed), &dkim.VerifyOptions{LookupTXT: lookup})
		if err != nil || len(found) != 1 || found[0].Err != nil || found[0].Domain != "example.net" {
			t.Errorf("the signature does not hold: %v, %+v", err, found)
		}
	}
}

func TestLettersOfAnySize(t *testing.T) {
	for size := 1024; size < 1200; size++ {
		l := letter(size)
		if len(l) != size || !bytes.HasSuffix(l, []byte("\r\n")) {
			t.Errorf("a letter of %d bytes has %d and ends with %q", size, len(l), l[len(l)-4:])
		}
	}
}
