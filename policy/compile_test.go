package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/rules"
)

func TestProblems(t *testing.T) {
	f := &fakes{}
	for _, test := range []struct {
		name   string
		rules  []string
		change func(*Config)
		want   string
	}{
		{"greylist too early", []string{"client.port > 0 -> greylist; at: connect"}, nil, "greylist acts at rcpt at the earliest"},
		{"no such fact", []string{"dnsbl.scores > 1 -> reject"}, nil, "test:1:"},
		{"no such filter", nil, func(c *Config) { c.Filters["dsnbl"] = FilterConfig{} }, "filters.dsnbl:0: there is no such filter"},
		{"on_error", nil, func(c *Config) {
			c.Filters["dnsbl"] = FilterConfig{Common: Common{Enabled: true, OnError: "explode"}}
		}, "filters.dnsbl.on_error:0: must be pass or defer"},
		{"contact", nil, func(c *Config) { c.Contact = "a\r\nb" }, "contact:0:"},
		{"domain", nil, func(c *Config) { c.Domains = []string{"exa mple"} }, `domains[0]:0: "exa mple" is not a domain`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := f.config(test.rules...)
			if test.change != nil {
				test.change(&c)
			}
			e, problems := Compile(c, f.specs(), filters.Env{}, noLists{})
			if e != nil {
				t.Error("it compiles")
			}
			var all []string
			for _, p := range problems {
				all = append(all, fmt.Sprintf("%s%s:%d: %s", p.Key, p.Pos.File, p.Pos.Line, p.Message))
			}
			if !strings.Contains(strings.Join(all, "\n"), test.want) {
				t.Errorf("got %q, want %q", all, test.want)
			}
		})
	}
}

type zones struct{ Names []string }

type zoneFilter struct{ ran, adopted chan any }

func (z *zoneFilter) Run(ctx context.Context) { z.ran <- 1; <-ctx.Done() }
func (z *zoneFilter) Adopt(previous any)      { z.adopted <- previous }
func (z *zoneFilter) look(context.Context, filters.View) (*listFacts, error) {
	return &listFacts{}, nil
}

func zoneSpec(after string, err error) filters.Spec {
	return filters.Define("zones", "", func() zones { return zones{} }, func(z zones, _ filters.Env) (*zoneFilter, error) {
		if err != nil {
			return nil, err
		}
		return &zoneFilter{ran: make(chan any, 1), adopted: make(chan any, 1)}, nil
	}, filters.On(filters.AtConnect, (*zoneFilter).look, filters.After(after)))
}

func TestFilterProblemsNameTheKey(t *testing.T) {
	var list filters.KeyErrors
	list.Add("names[0]", "is empty")
	list.Add("names[1]", "is a number")
	_, problems := Compile(Config{}, []filters.Spec{zoneSpec("none", list)}, filters.Env{}, noLists{})
	if len(problems) != 2 || problems[0].Key != "filters.zones.names[0]" || problems[1].Message != "is a number" {
		t.Errorf("%+v", problems)
	}
	_, problems = Compile(Config{}, []filters.Spec{zoneSpec("none", errors.New("no"))}, filters.Env{}, noLists{})
	if len(problems) != 1 || problems[0].Key != "filters.zones" {
		t.Errorf("%+v", problems)
	}
}

func TestObservationsThatWaitForEachOther(t *testing.T) {
	other := zoneSpec("zones", nil)
	other.Name = "other"
	_, problems := Compile(Config{}, []filters.Spec{zoneSpec("other", nil), other}, filters.Env{}, noLists{})
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "waits for itself") {
		t.Errorf("%+v", problems)
	}
}

func TestEngineRunsAndAdopts(t *testing.T) {
	build := func() *Engine {
		e, problems := Compile(Config{}, []filters.Spec{zoneSpec("none", nil)}, filters.Env{}, noLists{})
		if e == nil {
			t.Fatal(problems)
		}
		return e
	}
	first, second := build(), build()
	second.Adopt(first)
	if got := <-second.Filter("zones").(*zoneFilter).adopted; got != first.Filter("zones") {
		t.Errorf("adopted %v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { second.Run(ctx); close(done) }()
	<-second.Filter("zones").(*zoneFilter).ran
	cancel()
	<-done
	if second.Filter("nothing") != nil {
		t.Error("a filter that does not exist")
	}
}

func TestEveryFactCanBeRead(t *testing.T) {
	e := compile(t, &fakes{}, (&fakes{}).config())
	kinds := map[rules.Kind]string{}
	facts := e.newFacts()
	r := readable{&facts}
	for _, fact := range e.Schema().Facts() {
		switch kinds[fact.Kind] = fact.Name; fact.Kind {
		case rules.Bool:
			r.Bool(fact.Name)
		case rules.Number:
			r.Number(fact.Name)
		case rules.Text:
			r.Text(fact.Name)
		case rules.List:
			r.List(fact.Name)
		}
	}
	for _, wrong := range []func(){func() { r.Text("no.such") }, func() { r.Bool(kinds[rules.Text]) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a filter's mistake goes unnoticed")
				}
			}()
			wrong()
		}()
	}
}
