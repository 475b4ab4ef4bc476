package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// plainText is all that a folder's files hold, unpacked.
func plainText(t testing.TB, folder string) string {
	t.Helper()
	files, err := segments(folder)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, s := range files {
		text, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		var decoder *zstd.Decoder
		scan := &scanner{file: bytes.NewReader(text), size: int64(len(text))}
		for {
			f, head, offset, err := scan.next()
			if err != nil {
				break
			}
			all.Write(head)
			body, err := scan.body(f, offset)
			if err != nil {
				t.Fatal(err)
			}
			if decoder == nil {
				decoder, _ = newDecoder(nil)
			}
			content, err := decoder.DecodeAll(body, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.kind == fileFrame {
				decoder, _ = newDecoder(content)
			}
			all.Write(content)
		}
	}
	return strings.ToLower(all.String())
}

var locals = rapid.OneOf(
	rapid.StringMatching(`[a-z][a-z0-9]{7,12}`),
	rapid.StringMatching(`[a-z]{4}[.+_=-][A-Za-z0-9]{5}`),
	rapid.StringMatching(`"[a-z]{4} [a-z]{5}"`),
	rapid.StringMatching(`[a-z]{3}'[a-z]{6}`),
	rapid.StringMatching(`ü[a-zö]{7}`),
)

// echoes are texts in which a mail server, a filter or a header repeats an address in one form or another.
func echo(t *rapid.T, local string) string {
	form := rapid.SampledFrom([]string{
		"%@example.org: no such user", "<%@Example.ORG>", "user % is unknown", "unknown recipient: %.", "%", "rfc822;%@example.org",
		"see http://why.example/?s=%&d=x", "'%' has no mailbox here", "%: mailbox full", "% and %@other.example", "bounce+%=example.org@lists.example.net",
	}).Draw(t, "form")
	if rapid.Bool().Draw(t, "upper") {
		local = strings.ToUpper(local)
	}
	return strings.ReplaceAll(form, "%", local)
}

// No local part is in a keyed or a cut journal, in whatever field and form it came, nor in its index.
func TestNoLocalPartIsKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		folder := t.TempDir()
		c := testConfig(folder)
		c.Addresses = rapid.SampledFrom([]Addresses{Keyed, Cut}).Draw(rt, "mode")
		sender, recipient := locals.Draw(rt, "sender"), locals.Draw(rt, "recipient")
		local := rapid.SampledFrom([]string{sender, recipient})
		text := func() string { return echo(rt, local.Draw(rt, "who")) }
		r := drawRecord(rt)
		r.Kind, r.ID = policy.TransactionRecord, "0000000000000.1"
		r.Envelope = &filters.Envelope{ID: r.ID, ReversePath: sender + "@example.com", Started: r.Start,
			Params: []filters.Param{{Key: "AUTH", Value: text(), HasValue: true}}}
		r.Recipients = []policy.RecipientRecord{{Address: recipient + "@example.org", Reply: rules.Reply{Code: 550, Text: text()},
			Params: []filters.Param{{Key: "ORCPT", Value: text(), HasValue: true}}, Rule: testRules[0],
			Filters: []policy.FilterRecord{{Name: "quota", Status: "ok", Facts: &rcptFacts{Note: text()}}}}}
		r.Matched = []policy.Match{{Rule: testRules[0], Recipient: recipient + "@example.org"}}
		why := text()
		r.Facts.Set(mailGroup, &mailFacts{Address: sender + "@example.com", Local: sender})
		r.Facts.Set(listGroup, &listFacts{Result: "none", Zones: []string{text()}, Why: &why})
		r.Facts.Set(messageGroup, &messageFacts{Header: testHeader{"Subject": text()}})
		r.Filters = []policy.FilterRecord{{Name: "dnsbl", Status: "error", Error: text()}}
		r.Ending.Reply.Text, r.Ending.Note = text(), text()
		r.Refused = &policy.Decision{Rule: testRules[0], Reply: rules.Reply{Code: 550, Text: text()}}
		r.Greeting = &filters.Greeting{Name: text(), AuthUser: sender}
		writeAll(t, c, r)
		kept := plainText(t, folder)
		for _, secret := range []string{sender, recipient} {
			if strings.Contains(kept, strings.ToLower(secret)) || strings.Contains(kept, strings.ToLower(strings.Trim(secret, `"`))) {
				rt.Errorf("%s is in the %s journal: %q", secret, c.Addresses, kept)
			}
		}
		if !strings.Contains(kept, "@example.com") {
			rt.Errorf("the domain is missing: %q", kept)
		}
	})
}

// What is no address is kept as it is: rules are to be run over it again.
func TestDisguiseLeavesTheRestAlone(t *testing.T) {
	for _, d := range []*disguise{newDisguise(Keyed, make([]byte, keyBytes)), newDisguise(Cut, nil)} {
		d.nextRecord()
		d.watch("mail@example.org")
		d.watch("ok@example.org")
		for _, same := range []string{"", "mail.example.org", "okay", "192.0.2.1", "zen.spamhaus.org listed it", "a@", "postmaster@example.org", "ABUSE"} {
			got := d.text(same)
			if same == "a@" {
				if strings.HasPrefix(got, "a") {
					t.Errorf("%q is kept as %q", same, got)
				}
				continue
			}
			if got != same {
				t.Errorf("%q is kept as %q", same, got)
			}
		}
		if got := d.address("postmaster@example.org"); got != "postmaster@example.org" {
			t.Errorf("postmaster is kept as %s", got)
		}
	}
}

// Who has the key finds an address, whatever the case of its letters; a key of another journal does not help.
func TestAKeyedJournalIsSearched(t *testing.T) {
	folder := t.TempDir()
	c := testConfig(folder)
	c.Addresses = Keyed
	r := someRecords(1)[0]
	r.Envelope.ReversePath = "Alice.Example@example.com"
	writeAll(t, c, r)
	info, err := os.Stat(filepath.Join(folder, keyName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key: %v, %v", info, err)
	}
	find := func(address string) int {
		kept, err := Disguise(c, address)
		if err != nil {
			t.Fatal(err)
		}
		return len(readAll(t, folder, Query{Address: kept}))
	}
	if find("alice.example@Example.com") != 1 || find("alice@example.com") != 0 {
		t.Error("the address is not found, or another one is")
	}
	if _, err := Disguise(Config{Path: t.TempDir(), Addresses: Keyed}, "a@b"); err == nil {
		t.Error("without a key, an address can be disguised")
	}
	if _, err := Disguise(Config{Addresses: Cut}, "a@b"); err == nil {
		t.Error("an address can be found where none is kept")
	}
	writeAll(t, c, r) // the key is used again
	if find("alice.example@example.com") != 2 {
		t.Error("the second start has made another key")
	}
}

// A sender of the name "a" does not take the article out of a note of ours; what a server said stays hidden.
func TestNotesOfOursStandAsTheyAre(t *testing.T) {
	folder := t.TempDir()
	c := testConfig(folder)
	c.Addresses = Cut
	records := someRecords(2)
	for i, note := range []string{policy.NoteCopied, "refused: 550 a is unknown"} {
		records[i].Envelope.ReversePath, records[i].Ending.Note = "a@example.com", note
	}
	writeAll(t, c, records...)
	var notes []string
	for _, e := range readAll(t, folder, Query{}) {
		notes = append(notes, e.Ending.Note)
	}
	if want := []string{policy.NoteCopied, "refused: 550 * is unknown"}; !slices.Equal(notes, want) {
		t.Errorf("%q, want %q", notes, want)
	}
}
