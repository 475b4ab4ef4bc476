package milter

import (
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

func always(set *setting) { set.config.Reuse = reuseAlways }

func leave(f *Filter, v filters.View) {
	f.Concluded(&filters.Outcome{Kind: filters.SessionOutcome, View: v})
}

// TestConnectionsAreHandedOn: to another client when the first has left, and not before.
func TestConnectionsAreHandedOn(t *testing.T) {
	s := &script{}
	f := newFilter(t, s, always)
	first, second, third := viewOf(sample), viewOf(sample), viewOf(sample)
	observe(t, f, first)
	observe(t, f, second)
	if s.connections() != 2 {
		t.Errorf("%d connections for two clients", s.connections())
	}
	leave(f, first)
	observe(t, f, third)
	observe(t, f, third)
	if got := s.verbs(0); s.connections() != 2 || got != "OCHMRTLLLNBE"+"KCHMRTLLLNBE"+"MRTLLLNBE" {
		t.Errorf("%d connections: %s", s.connections(), got)
	}
	if got := f.State(); got != (State{Name: "test", Idle: 2, Opened: 2, Kept: 1, HandedOn: 1}) {
		t.Errorf("%+v", got)
	}
}

// TestMiltersThatDoNotGoOn: they are asked over a new connection then, and each client gets its own from then on.
func TestMiltersThatDoNotGoOn(t *testing.T) {
	for name, act := range map[string]func(net.Conn, byte, int) ([]byte, bool){
		"closes": func(_ net.Conn, code byte, _ int) ([]byte, bool) { return nil, code == 'K' },
		"passes over CONNECT": func(_ net.Conn, code byte, n int) ([]byte, bool) {
			if code == 'C' && n > 1 {
				return []byte{}, false
			}
			return nil, false
		},
		"is silent": func() func(net.Conn, byte, int) ([]byte, bool) {
			var handedOn sync.Map // by connection
			return func(conn net.Conn, code byte, _ int) ([]byte, bool) {
				if code == 'K' {
					handedOn.Store(conn, true)
				}
				if _, found := handedOn.Load(conn); found {
					return []byte{}, code == 'Q'
				}
				return nil, false
			}
		}(),
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{act: act}
			f := newFilter(t, s, always)
			for range 4 {
				v := viewOf(sample)
				if facts := observe(t, f, v); facts.Action != "continue" {
					t.Errorf("%s: %+v", name, facts)
				}
				leave(f, v)
			}
			if got := f.State(); s.connections() != 4 || got.HandedOn != 1 || got.Idle != 0 || got.Paused {
				t.Errorf("%s: %d connections, %+v", name, s.connections(), got)
			}
		})
	}
}

// TestTheMacrosThatWereAskedFor: SMFIR_SETSYMLIST takes the place of what we would have said.
func TestTheMacrosThatWereAskedFor(t *testing.T) {
	s := &script{agree: wire.Negotiation{Actions: milter.OptSetSymList, Macros: []wire.MacroRequest{
		{Stage: milter.StageConnect, Names: []string{"{client_port}", "j", "{no_such}"}},
		{Stage: milter.StageHelo, Names: []string{"{client_addr}", "{tls_version}"}},
		{Stage: milter.StageMailFrom, Names: nil},
		{Stage: milter.StageRcptTo, Names: []string{"rcpt_addr", "{auth_authen}", "{i}"}},
		{Stage: milter.StageEOH, Names: []string{"i"}},
		{Stage: milter.StageEOM, Names: []string{"i", "{client_addr}", "{rcpt_addr}"}},
	}}}
	v := viewOf(sample)
	v.Greeting.AuthUser = "joe"
	observe(t, newFilter(t, s, nil), v)
	var macros []string
	for _, c := range s.said(0) {
		if c[0] == 'D' {
			macros = append(macros, c)
		}
	}
	want := []string{"D C{client_port}|40000|j|mx.example.org", "D H{client_addr}|192.0.2.1", "D R{rcpt_addr}|joe@example.org|{auth_authen}|joe|i|t1",
		"D Ti|t1", "D Ni|t1", "D Ei|t1|{client_addr}|192.0.2.1"}
	if !slices.Equal(macros, want) {
		t.Errorf("got\n%q\nwant\n%q", macros, want)
	}
}
