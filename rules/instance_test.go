package rules

import (
	"reflect"
	"strings"
	"testing"
)

type instanceFacts struct {
	Rejects bool    `fact:"rejects"`
	Reply   *string `fact:"reply" reply:"smtp"`
}

func instanceSchema(t testing.TB, names ...string) (*Schema, error) {
	t.Helper()
	groups := []Group{{Name: "client", Type: reflect.TypeFor[clientFacts](), Stage: 0}}
	for _, name := range names {
		groups = append(groups, Group{Name: name, Type: reflect.TypeFor[instanceFacts](), Stage: len(testStages) - 1})
	}
	return NewSchema(testStages, atRcpt, groups)
}

// TestInstances: the same facts are there once for each instance of a filter, under a name of two parts.
func TestInstances(t *testing.T) {
	s, err := instanceSchema(t, "milter.a", "milter.b")
	if err != nil {
		t.Fatal(err)
	}
	set := mustCompile(t, s, nil, defineAll("name: r; when: milter.a.rejects and not milter.b.rejects; then: reject; reply: 550 5.7.1 says {milter.a.reply}")...)
	r, f := set.Rules()[0], s.NewFacts()
	own := "550 5.7.0 no"
	f.Set(1, &instanceFacts{Rejects: true, Reply: &own})
	if r.Match(f) != Unknown {
		t.Error("decided without b")
	}
	f.Set(2, &instanceFacts{})
	if got, _ := r.Reply(f); r.Match(f) != True || got.Text != "says 550 5.7.0 no" {
		t.Errorf("%v, %q", r.Match(f), got.Text)
	}
	if got := strings.Join(r.Fields, " "); got != "milter.a.rejects milter.b.rejects" {
		t.Errorf("reads %s", got)
	}
	for text, want := range map[string]string{
		"milter.a":           "milter.a has several facts: milter.a.rejects, milter.a.reply",
		"milter":             "milter has several facts: milter.a.rejects, milter.a.reply, milter.b.rejects, milter.b.reply",
		"milter.c.rejects":   "there is no fact milter.c.rejects, did you mean milter.a.rejects?",
		"milter.a.rejecs":    "there is no fact milter.a.rejecs, did you mean milter.a.rejects?",
		"milter.a.reply.x":   "a fact is written group.name; there are no elements and no deeper levels",
		`milter["a"].reply`:  "a fact is written group.name; there are no elements and no deeper levels",
		"client.x.y.rejects": "a fact is written group.name; there are no elements and no deeper levels",
	} {
		_, problems := Compile(s, defineAll("name: r; when: "+text+"; then: accept"), nil)
		if len(problems) == 0 || !strings.HasSuffix(problems[0].Message, want) {
			t.Errorf("%s: %v, want %s", text, problems, want)
		}
	}
	for _, name := range []string{"milter.", "milter.A", "milter.a.b", ".a", "milter.not", "not.a"} {
		if _, err := instanceSchema(t, name); err == nil {
			t.Errorf("%s is taken for the name of a group", name)
		}
	}
}

// TestAliases: the facts of an instance may be called by its name alone, and mean the same.
func TestAliases(t *testing.T) {
	group := func(name, alias string) Group {
		return Group{Name: name, Alias: alias, Type: reflect.TypeFor[instanceFacts](), Stage: len(testStages) - 1}
	}
	client := Group{Name: "client", Type: reflect.TypeFor[clientFacts](), Stage: 0}
	s, err := NewSchema(testStages, atRcpt, []Group{client, group("milter.a", "a"), group("milter.b", "b")})
	if err != nil {
		t.Fatal(err)
	}
	set := mustCompile(t, s, nil, defineAll("name: r; when: a.rejects and milter.a.rejects and not b.rejects; then: reject; reply: {a.reply}")...)
	r, f := set.Rules()[0], s.NewFacts()
	own := "550 5.7.0 no"
	f.Set(1, &instanceFacts{Rejects: true, Reply: &own})
	f.Set(2, &instanceFacts{})
	if got, _ := r.Reply(f); r.Match(f) != True || got.Text != "no" {
		t.Errorf("%v, %q", r.Match(f), got.Text)
	}
	if got := strings.Join(r.Fields, " "); got != "milter.a.rejects milter.b.rejects" {
		t.Errorf("reads %s", got)
	}
	if v, ok := f.Lookup("a.rejects"); !ok || v != true {
		t.Error(v, ok)
	}
	if _, problems := Compile(s, defineAll("name: r; when: a.rejecs; then: accept"), nil); len(problems) == 0 || !strings.Contains(problems[0].Message, "did you mean a.rejects?") {
		t.Error(problems)
	}
	for _, alias := range []string{"client", "milter", "score", "not", "A", "a.b"} {
		if _, err := NewSchema(testStages, atRcpt, []Group{client, group("milter.a", alias)}); err == nil {
			t.Errorf("%s means two things", alias)
		}
	}
	if _, err := NewSchema(testStages, atRcpt, []Group{group("milter.a", "a"), group("milter.b", "a")}); err == nil {
		t.Error("two groups are called a")
	}
}

// TestForeignReplies: a reply that is not the operator's own is checked when it is given.
func TestForeignReplies(t *testing.T) {
	s, err := instanceSchema(t, "milter.a")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ action, fact, want string }{
		{"reject", "550 5.7.1 Spam", "550 5.7.1 Spam"},
		{"reject", "554 5.7.1 a\nb\r\n\x1b[31mé", "554 5.7.1 a\nb?\n?[31m?"},
		{"reject", "550 5.7.1 " + strings.Repeat("x", 500), "550 5.7.1 " + strings.Repeat("x", 400)},
		{"reject", "550 5.7.1 x" + strings.Repeat("\ny", 20), "550 5.7.1 x" + strings.Repeat("\ny", 9)},
		{"defer", "451 4.7.1 Later", "451 4.7.1 Later"},
		{"greylist", "451 4.7.1 Later", "451 4.7.1 Later"},
		{"reject", "451 4.7.1 Later", ""},
		{"defer", "550 5.7.1 Spam", ""},
		{"reject", "250 2.0.0 Taken", ""},
		{"reject", "550 4.7.1 Mixed", ""},
		{"reject", "550 Spam", ""},
		{"reject", "", ""},
		{"greylist", "421 4.7.1 Closing", ""},
	} {
		set := mustCompile(t, s, nil, defineAll("name: r; when: milter.a.rejects; then: "+test.action+"; reply: {milter.a.reply}")...)
		f := s.NewFacts()
		if _, ok := set.Rules()[0].Reply(f); ok {
			t.Error("a reply that is absent")
		}
		f.Set(1, &instanceFacts{Reply: &test.fact})
		reply, ok := set.Rules()[0].Reply(f)
		got := ""
		if ok {
			got = strings.Join([]string{string(rune('0'+reply.Code/100)) + string(rune('0'+reply.Code/10%10)) + string(rune('0'+reply.Code%10)), reply.Enhanced, reply.Text}, " ")
		}
		if got != test.want {
			t.Errorf("%s with %q: %q, want %q", test.action, test.fact, got, test.want)
		}
	}
}
