package policy

import (
	"context"
	"slices"
	"testing"

	"gatepost/filters"
)

// reader says what it will read, and notes what it was told of others.
type reader struct{ told []string }

type readFacts struct {
	Score float64 `fact:"score"`
}

func (r *reader) Mail(ctx context.Context, _ filters.View) (*readFacts, error) {
	r.told = filters.Foreseen(ctx)
	return &readFacts{}, nil
}

func (r *reader) WillRead(s *filters.Session, e *filters.Envelope) []string {
	keys := []string{"n:" + s.Client.IP.String()}
	if e != nil {
		keys = append(keys, "d:"+e.ReversePath)
	}
	return keys
}

// What a filter will read is told to whoever is asked before, at connect and at MAIL.
func TestWhatWillBeReadIsForeseen(t *testing.T) {
	r := &reader{}
	g := &Gate{engine: &Engine{}, session: &filters.Session{Client: filters.ClientAt(testClient)}}
	if got := filters.Foreseen(g.foreseeing(t.Context(), nil)); got != nil {
		t.Errorf("without a reader: %q", got)
	}
	g.engine.ledgerReaders = []filters.LedgerReader{r}
	for _, test := range []struct {
		e    *filters.Envelope
		want []string
	}{
		{nil, []string{"n:" + testClient.Addr().String()}},
		{&filters.Envelope{ReversePath: "a@example.org"}, []string{"n:" + testClient.Addr().String(), "d:a@example.org"}},
	} {
		if got := filters.Foreseen(g.foreseeing(t.Context(), test.e)); !slices.Equal(got, test.want) {
			t.Errorf("%q, not %q", got, test.want)
		}
	}
	facts, err := r.Mail(g.foreseeing(t.Context(), &filters.Envelope{ReversePath: "b@example.org"}), filters.View{})
	if err != nil || facts == nil || !slices.Contains(r.told, "d:b@example.org") {
		t.Errorf("an observation at MAIL is told %q", r.told)
	}
}
