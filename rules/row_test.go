package rules

import (
	"net/netip"
	"reflect"
	"testing"
)

type rowFacts struct {
	Flag   bool       `fact:"flag"`
	Count  int        `fact:"count"`
	Result string     `fact:"result" values:"pass fail"`
	Names  []string   `fact:"names"`
	IP     netip.Addr `fact:"ip"`
	Maybe  *int       `fact:"maybe"`

	Header HeaderSource `fact:"header"`
}

type ownFacts struct {
	Verdict string `fact:"verdict" values:"accept reject"`
}

func rowSchema(t *testing.T) *Schema {
	t.Helper()
	s, err := NewSchema([]string{"connect"}, 0, []Group{
		{Name: "x", Type: reflect.TypeFor[rowFacts]()},
		{Name: "", Type: reflect.TypeFor[ownFacts]()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func truthOf(t *testing.T, s *Schema, text string, f *Facts) Truth {
	t.Helper()
	e, problems := CompileExpr(s, Source{Text: text}, nil)
	if e == nil {
		t.Fatalf("%s: %v", text, problems)
	}
	return e.Match(f)
}

func TestRowAnswersLikeItsStruct(t *testing.T) {
	s := rowSchema(t)
	given := &rowFacts{Flag: true, Count: 7, Result: "pass", Names: []string{"a", "b"}, IP: netip.MustParseAddr("192.0.2.1")}
	from := s.NewFacts()
	from.Set(0, given)
	row := s.NewRow(0)
	for i, c := range s.Columns(0) {
		switch c.Fact().Kind {
		case Bool:
			if v, ok := c.Bool(from.Held(0)); ok {
				row.SetBool(i, v)
			}
		case Number:
			if v, ok := c.Number(from.Held(0)); ok {
				row.SetNumber(i, v)
			}
		case Text:
			if v, ok := c.Text(from.Held(0)); ok {
				row.SetText(i, v)
			}
		case List:
			if v, ok := c.List(from.Held(0)); ok {
				row.SetList(i, v)
			}
		case Address:
			if v, ok := c.Address(from.Held(0)); ok {
				row.SetAddress(i, v)
			}
		}
	}
	row.SetHeader("Subject", "hello")
	row.SetHeader("X-None", "")
	copied := s.NewFacts()
	copied.SetRow(0, row)
	for text, want := range map[string]Truth{
		"x.flag": True, "x.count == 7": True, `x.result == "fail"`: False, `"b" in x.names`: True,
		`in_network(x.ip, "192.0.2.0/24")`: True, "x.maybe == 1": Unknown, "known(x.maybe)": False, "known(x.count)": True,
		`header("subject") == "hello"`: True, `header("X-None") == ""`: True,
	} {
		if got := truthOf(t, s, text, copied); got != want {
			t.Errorf("%s over the row is %v, not %v", text, got, want)
		}
	}
	if got := truthOf(t, s, `header("X-Never-Recorded") == ""`, copied); got != Unknown {
		t.Errorf("a header field that was not recorded makes a comparison %v, not unknown", got)
	}
	row.Clear()
	for _, text := range []string{"x.flag", "x.count == 7", `x.result == "fail"`, `"b" in x.names`, `header("Subject") == "hello"`} {
		if got := truthOf(t, s, text, copied); got != Unknown {
			t.Errorf("%s over a row that was cleared is %v, not unknown", text, got)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() {
		row.Clear()
		row.SetNumber(1, 3)
		row.SetList(3, given.Names)
	}); allocs > 0 {
		t.Errorf("filling a row again allocates %v times", allocs)
	}
}

func TestFactsWhoseNamesStandAlone(t *testing.T) {
	s := rowSchema(t)
	f := s.NewFacts()
	f.Set(1, &ownFacts{Verdict: "accept"})
	if got := truthOf(t, s, `verdict == "accept"`, f); got != True {
		t.Errorf("got %v", got)
	}
	if _, problems := CompileExpr(s, Source{Text: `verdict == "acept"`}, nil); len(problems) != 1 {
		t.Errorf("a value that cannot be: %v", problems)
	}
	if _, problems := CompileExpr(s, Source{Text: `verdikt == "accept"`}, nil); len(problems) != 1 ||
		problems[0].Message != `there is no fact "verdikt", did you mean verdict?` {
		t.Errorf("a name that does not exist: %v", problems)
	}
}
