package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestListOfNames(t *testing.T) {
	p := new(problems)
	lists := newListCache(listFiles{"names": "\ufeff# comment\r\nexample.org # exact\r\n\n  .example.com\n@example.net\nAnna@Example.test\n[192.0.2.1]\nlocalhost.\ngrün@example.test\n"})
	names := lists.names("names", Pos{}, p)
	if len(p.all) > 0 {
		t.Fatal(p.all)
	}
	tests := []struct {
		text string
		want bool
	}{
		{"example.org", true}, {"EXAMPLE.ORG.", true}, {"www.example.org", false}, {"user@example.org", true}, {"user@www.example.org", false},
		{"example.com", true}, {"a.b.example.com", true}, {"badexample.com", false}, {"user@example.com", true}, {"user@a.example.com", true},
		{"user@example.net", true}, {"example.net", false}, {"user@a.example.net", false}, {`"odd@example.net"@other.test`, false}, {`"odd@local"@example.net`, true},
		{"anna@example.test", true}, {"ANNA@EXAMPLE.TEST", true}, {"bob@example.test", false}, {"example.test", false},
		{"[192.0.2.1]", true}, {"localhost", true}, {"grün@example.test", true}, {"", false}, {".", false}, {"@", false}, {"..", false}, {"com", false},
		{strings.Repeat("a", 400) + ".example.com", false},
	}
	for _, test := range tests {
		if got := names.has(test.text); got != test.want {
			t.Errorf("%q: %v", test.text, got)
		}
	}
	longest := strings.Repeat("a", maxName-len("@example.net")) + "@example.net"
	if !names.has(longest) || names.has("a"+longest) {
		t.Error("the bound of a name is off")
	}
}

func TestListOfNetworks(t *testing.T) {
	p := new(problems)
	networks := newListCache(listFiles{"n": "192.0.2.0/24\n198.51.100.7 # one\n2001:db8::/32\n::ffff:203.0.113.0/120\n"}).networks("n", Pos{}, p)
	if len(p.all) > 0 {
		t.Fatal(p.all)
	}
	for text, want := range map[string]bool{
		"192.0.2.255": true, "192.0.3.0": false, "198.51.100.7": true, "198.51.100.8": false, "2001:db8::1": true, "2001:db9::1": false, "203.0.113.4": true,
	} {
		if got := networks.Lookup(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestMistakesInListFilesHaveTheirLine(t *testing.T) {
	lists := listFiles{
		"networks": "192.0.2.0/24\n  192.0.2.1/24\n\nexample.org # no\n",
		"names":    "example.org\nexample.org, example.com\n@exa_mple..org\n.bücher.example\n\xff\n.*.example.org\n" + strings.Repeat("a", 321) + "\n",
	}
	set, problems := Compile(testSchema(t), defineAll(
		`name: a; when: in_list(client.ip, "networks"); then: accept`,
		`name: b; when: in_list(mail.domain, "names"); then: accept`,
		`name: c; when: in_list(rcpt.domain, "names"); then: reject`,
	), lists)
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`networks:2:3: "192.0.2.1/24" is not the start of its network, did you mean 192.0.2.0/24?`,
		`networks:4:1: "example.org" is neither an IP address nor a network such as 192.0.2.0/24`,
		`names:2:1: one entry a line, without white space; # starts a comment`,
		`names:3:1: "exa_mple..org" is not a domain`,
		`names:4:1: "bücher.example" must be written as it is in the DNS: xn--bcher-kva.example`,
		`names:5:1: the entry is not UTF-8`,
		`names:6:1: "*.example.org": write the domain alone, what is below it is meant too`,
		`names:7:1: the entry is longer than 320 bytes`,
	}
	if set != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestListBounds(t *testing.T) {
	p := new(problems)
	count := 0
	eachEntry("many", []byte(strings.Repeat("a\n", maxListEntries+5)), p, func(string) error { count++; return nil })
	if count != maxListEntries || len(p.all) != 1 || !strings.Contains(p.all[0].Message, "more than 1000000 entries") {
		t.Errorf("%d entries, %v", count, p.all)
	}
	p = new(problems)
	eachEntry("bad", []byte(strings.Repeat("a\n", 100)), p, func(string) error { return errors.New("bad") })
	if len(p.all) != maxListProblems {
		t.Errorf("%d problems", len(p.all))
	}
	p = new(problems)
	newListCache(hugeList{}).names("huge", Pos{File: "f", Line: 1, Column: 1}, p)
	if len(p.all) != 1 || p.all[0].String() != `f:1:1: the list file "huge" is larger than 64 MiB` {
		t.Error(p.all)
	}
}

type hugeList struct{}

func (hugeList) ReadList(string) ([]byte, error) { return make([]byte, maxListBytes+1), nil }

func FuzzListFile(f *testing.F) {
	f.Add([]byte("example.org\n.b\n@c\nx@y # z\n192.0.2.0/24\n"), "x@y")
	f.Add([]byte("\xef\xbb\xbf.\n..\n@\n"), "..@..")
	f.Fuzz(func(t *testing.T, content []byte, text string) {
		lists := newListCache(listFiles{"l": string(content)})
		p := new(problems)
		lists.names("l", Pos{}, p).has(text)
		lists.networks("l", Pos{}, p)
		for _, problem := range p.all {
			if problem.Pos.Line < 1 && problem.Pos.File == "l" {
				t.Fatal(fmt.Sprint(problem))
			}
		}
	})
}

func TestListsOfASet(t *testing.T) {
	lists := listFiles{"a.txt": "example.org\n# nothing\nexample.net\n", "b.txt": "192.0.2.0/24\n"}
	set, problems := Compile(testSchema(t), defineAll(
		`name: one; when: in_list(mail.domain, "a.txt") or in_list(mail.domain, "gone.txt"); then: accept`,
		`name: two; when: in_list(mail.domain, "a.txt") and in_list(client.ip, "b.txt"); then: accept`,
	), lists)
	if set == nil {
		t.Fatal(problems)
	}
	want := []ListFile{{"a.txt", 2, 34, false, []string{"one", "two"}}, {"b.txt", 1, 13, false, []string{"two"}}, {"gone.txt", 0, 0, true, []string{"one"}}}
	if got := set.Lists(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
