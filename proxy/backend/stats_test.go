package backend

import (
	"testing"

	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/histogram"
)

func observed(s histogram.Snapshot) (n uint64) {
	for _, count := range s.Counts {
		n += count
	}
	return n
}

func TestStats(t *testing.T) {
	g, _ := newGroup(t, func(c *Config) { c.Connections = 5 }, start(t, backendtest.Behaviour{}))
	if st := g.Stats()[0]; st.Seen || st.Up || st.Open != 0 || st.Limit != 5 {
		t.Errorf("before the first client: %+v", st)
	}
	for range 3 {
		c, err := g.Dial(testContext(t), testClient())
		if err != nil {
			t.Fatal(err)
		}
		envelope(t, c)
		send(t, c, message("x\r\n"))
		if st := g.Stats()[0]; st.Open != 1 || st.Idle != 0 {
			t.Errorf("with a client: %+v", st)
		}
		c.Release()
	}
	st := g.Stats()[0]
	if !st.Seen || !st.Up || st.Open != 1 || st.Idle != 1 || st.Opened != 1 || st.Reused != 2 || st.Failed+st.Refused+st.Lost != 0 {
		t.Errorf("after three clients: %+v", st)
	}
	if d, m := observed(st.Dial), observed(st.Message); d != 3 || m != 3 || observed(st.Exchange) < 3 {
		t.Errorf("durations of %d dials, %d messages, %d batches", d, m, observed(st.Exchange))
	}
}

func TestStatsOfABackendThatIsAway(t *testing.T) {
	g, _ := newGroup(t, func(c *Config) { c.Address = []string{"127.0.0.1:1"} })
	if _, err := g.Dial(testContext(t), testClient()); err == nil {
		t.Fatal("nobody answers there")
	}
	if st := g.Stats()[0]; st.Up || st.Opened != 0 || st.Failed != 1 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
}
