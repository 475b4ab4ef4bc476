package simulate

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/dkim"
	"gatepost/filters/filtertest"
	"gatepost/filters/greylist"
	"gatepost/filters/rdns"
	"gatepost/filters/spf"
	"gatepost/policy"
	"gatepost/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// arrival is what a proxy sees of an attempt.
type arrival struct {
	at     int64 // in nanoseconds
	client string
	from   string
}

// recorder sees all mail.
type recorder struct {
	clock filters.Clock
	seen  *[]arrival
}

type recorded struct {
	Seen bool `fact:"seen"`
}

func (r *recorder) Mail(_ context.Context, v filters.View) (*recorded, error) {
	*r.seen = append(*r.seen, arrival{r.clock.Now().UnixNano(), v.Session.Client.IP.String(), v.Envelope.ReversePath})
	return &recorded{Seen: true}, nil
}

// play runs a configuration at two proxies that greylist everybody, and returns who came when.
func play(t *testing.T, c Config) (*Result, []arrival) {
	t.Helper()
	var seen []arrival
	none := func() struct{} { return struct{}{} }
	specs := []filters.Spec{rdns.Spec, spf.Spec, dkim.Spec, greylist.Spec, filters.Define("recorder", "", none,
		func(_ struct{}, env filters.Env) (*recorder, error) { return &recorder{env.Clock, &seen}, nil },
		filters.On(filters.AtMail, (*recorder).Mail, filters.Inline()))}
	text := func(s string) rules.Source {
		return rules.Source{Text: s, At: func(int) rules.Pos { return rules.Pos{File: "test", Line: 1} }}
	}
	enabled := map[string]policy.FilterConfig{}
	for _, spec := range specs {
		enabled[spec.Name] = policy.FilterConfig{Common: policy.Common{Enabled: true}, Settings: spec.NewConfig()}
	}
	c.Clock = filtertest.NewClock()
	c.Delay = 5 * minute
	store := filtertest.NewStore(c.Clock)
	c.Stores = []filters.Store{store, store}
	c.Compile = func(env filters.Env) (*policy.Engine, error) {
		env.Hostname, env.Log = "mx.example.org", slog.New(slog.DiscardHandler)
		engine, problems := policy.Compile(policy.Config{
			Hostname: env.Hostname, Domains: []string{site},
			Filters: enabled,
			Rules:   []rules.Definition{{Name: text(greylistRule), When: text("recorder.seen"), Then: text("greylist")}},
		}, specs, env, nil)
		if engine == nil {
			t.Fatal(problems)
		}
		return engine, nil
	}
	r, err := Run(c)
	if err != nil {
		t.Fatal(err)
	}
	return r, seen
}
