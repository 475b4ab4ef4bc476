package filters

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
)

type colourConfig struct {
	Colour string `yaml:"colour"`
}

type colourFacts struct {
	// The colour of the greeting.
	Colour string `fact:"colour"`
}

type colourFilter struct{ colour string }

var errNoHelo = errors.New("no greeting")

func (f *colourFilter) helo(_ context.Context, v View) (*colourFacts, error) {
	if v.Greeting == nil {
		return &colourFacts{}, errNoHelo
	}
	return &colourFacts{Colour: f.colour + " " + v.Greeting.Name}, nil
}

func (f *colourFilter) nothing(context.Context, View) (*colourFacts, error) { return nil, nil }

var colourSpec = Define("colour", "Which colour is it?",
	func() colourConfig { return colourConfig{Colour: "red"} },
	func(c colourConfig, env Env) (*colourFilter, error) {
		switch c.Colour {
		case "":
			return nil, nil
		case "octarine":
			return &colourFilter{}, errMistake
		}
		return &colourFilter{env.Hostname + " " + c.Colour}, nil
	},
	On(AtHelo, (*colourFilter).helo, Inline()),
	On(AtMessage, (*colourFilter).nothing, After("spf", "dkim")),
)

func TestDefineDescribesTheFilter(t *testing.T) {
	s := colourSpec
	if s.Name != "colour" || s.Summary != "Which colour is it?" || len(s.Observations) != 2 {
		t.Fatalf("%+v", s)
	}
	helo, message := s.Observations[0], s.Observations[1]
	if helo.Stage != AtHelo || helo.Facts != reflect.TypeFor[colourFacts]() || !helo.Inline || helo.After != nil {
		t.Errorf("helo: %+v", helo)
	}
	if message.Stage != AtMessage || message.Inline || !slices.Equal(message.After, []string{"spf", "dkim"}) {
		t.Errorf("message: %+v", message)
	}
}

func TestDefineBuildsAndObserves(t *testing.T) {
	s := colourSpec
	config := s.NewConfig().(*colourConfig)
	if config.Colour != "red" {
		t.Fatalf("defaults: %+v", config)
	}
	config.Colour = "blue"
	if other := s.NewConfig().(*colourConfig); other.Colour != "red" {
		t.Error("configurations share memory")
	}
	f, err := s.Build(config, Env{Hostname: "mx.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	facts, err := s.Observations[0].Observe(context.Background(), f, View{Greeting: &Greeting{Name: "client.test"}})
	if got, ok := facts.(*colourFacts); err != nil || !ok || got.Colour != "mx.example.org blue client.test" {
		t.Errorf("%+v, %v", facts, err)
	}
	if facts, err := s.Observations[0].Observe(context.Background(), f, View{}); facts != nil || err != errNoHelo {
		t.Errorf("facts beside an error: %+v, %v", facts, err)
	}
	if facts, err := s.Observations[1].Observe(context.Background(), f, View{}); facts != nil || err == nil {
		t.Errorf("neither facts nor an error: %+v, %v", facts, err)
	}
}

// A filter with nothing to do is nil, not an interface that holds a nil pointer.
func TestBuildWithoutAFilter(t *testing.T) {
	s := colourSpec
	if f, err := s.Build(&colourConfig{}, Env{}); f != nil || err != nil {
		t.Errorf("nothing to do: %#v, %v", f, err)
	}
	if f, err := s.Build(&colourConfig{Colour: "octarine"}, Env{}); f != nil || err != errMistake {
		t.Errorf("a mistake: %#v, %v", f, err)
	}
}

func TestStages(t *testing.T) {
	want := []string{"connect", "helo", "mail", "rcpt", "data", "message"}
	for i, name := range want {
		if Stage(i).String() != name {
			t.Errorf("stage %d is called %s, want %s", i, Stage(i), name)
		}
	}
	if len(Stages) != len(want) {
		t.Errorf("%d stages", len(Stages))
	}
}

func TestSystemClock(t *testing.T) {
	before := time.Now()
	now := SystemClock{}.Now()
	if now.Before(before) || now.After(time.Now()) {
		t.Errorf("%v is not now", now)
	}
}

func TestMarkExists(t *testing.T) {
	if (Mark{}).Exists() || !(Mark{Expires: time.Unix(1, 0)}).Exists() {
		t.Error("a mark exists when it has an end")
	}
}

func TestSplitAddress(t *testing.T) {
	for _, c := range []struct{ address, local, domain string }{
		{"", "", ""},
		{"postmaster", "postmaster", ""},
		{"User@Example.ORG", "User", "example.org"},
		{"user@example.org.", "user", "example.org"},
		{`"a@b"@example.org`, `"a@b"`, "example.org"},
		{"user@[IPv6:2001:DB8::1]", "user", "[ipv6:2001:db8::1]"},
		{"user@", "user", ""},
	} {
		if local, domain := SplitAddress(c.address); local != c.local || domain != c.domain {
			t.Errorf("SplitAddress(%q) = %q, %q", c.address, local, domain)
		}
	}
}
