package simulate

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// Attempt is one session with one message.
type Attempt struct {
	Kind     string
	Client   netip.Addr
	Greeting string
	From     string
	To       []string
	Message  []byte
}

// Reply is what the client heard in the end.
type Reply struct {
	Code int
	Rule string // by which; empty: the backend's word
}

func (r Reply) comesBack() bool { return r.Code/100 == 4 }

// proxy is one of the site's.
type proxy struct {
	engine  *policy.Engine
	runtime policy.Runtime
	clock   filters.Clock
	serial  int
	learned bool // something waits to be written
}

var local = netip.MustParseAddrPort("192.0.2.25:25")

const (
	site        = "example.org"
	trapAddress = "trap@" + site
	nobody      = "nobody"
)

// deliver plays a session as a front end does, before a backend that takes what is for users.
func (p *proxy) deliver(a *Attempt) Reply {
	ctx, now := context.Background(), p.clock.Now()
	p.serial++
	client := netip.AddrPortFrom(a.Client, 40_000)
	g := p.engine.NewGate(&filters.Session{ID: "S" + strconv.Itoa(p.serial), Client: filters.ClientAt(client), To: &local, Accepted: now}, &p.runtime)
	defer g.Close("")
	if v := g.Greet(ctx, false, g.Connect(ctx)); v.Action != 0 {
		return heard(v)
	}
	if v := g.Helo(ctx, &filters.Greeting{Name: a.Greeting, Extended: filters.Known(true)}); v.Action != 0 {
		return heard(v)
	}
	e := &filters.Envelope{ID: "T" + strconv.Itoa(p.serial), ReversePath: a.From, Started: now}
	if v := g.Mail(ctx, e); v.Action != 0 {
		return ended(g, v)
	}
	accepted, last := 0, Reply{}
	for _, to := range a.To {
		if r := p.recipient(ctx, g, to); r.Code == 250 {
			accepted++
		} else if !last.comesBack() {
			last = r
		}
	}
	if accepted == 0 {
		g.Conclude(policy.Ending{})
		return last
	}
	if v := g.Data(ctx); v.Action != 0 {
		return ended(g, v)
	}
	return p.message(ctx, g, a.Message)
}

func (p *proxy) recipient(ctx context.Context, g *policy.Gate, to string) Reply {
	if v := g.Rcpt(ctx, &filters.Recipient{ForwardPath: to}); v.Action != 0 {
		return heard(v)
	}
	if strings.HasPrefix(to, nobody) {
		r := rules.Reply{Code: 550, Enhanced: "5.1.1", Text: "No such user"}
		g.Refused(r)
		return Reply{Code: r.Code}
	}
	if v := g.Accepted(ctx); v.Action != 0 {
		return heard(v)
	}
	return Reply{Code: 250}
}

func (p *proxy) message(ctx context.Context, g *policy.Gate, text []byte) Reply {
	m := filters.NewMessage(1<<20, nil)
	defer m.Release()
	if _, err := m.Write(text); err != nil {
		return Reply{Code: 451}
	}
	m.Complete()
	g.Message(m)
	if v, _ := g.EndOfData(ctx); v.Action != 0 {
		return ended(g, v)
	}
	g.Conclude(policy.Ending{Reply: rules.Reply{Code: 250, Enhanced: "2.0.0", Text: "OK"}, Size: int64(len(text))})
	p.learned = true
	return Reply{Code: 250}
}

func heard(v policy.Verdict) Reply {
	r := Reply{Code: v.Reply.Code}
	if v.Rule != nil {
		r.Rule = v.Rule.Name
	}
	return r
}

func ended(g *policy.Gate, v policy.Verdict) Reply {
	g.Conclude(policy.Ending{Reply: v.Reply, Ours: true})
	return heard(v)
}

// over is a context that has ended: what runs under it beside the sessions writes what waits, and returns.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// settle writes what was learned, as the filters' background work does within a second or so.
func (p *proxy) settle() {
	if !p.learned {
		return
	}
	p.learned = false
	for _, name := range []string{"greylist", "known", "earlytalker", "reputation"} {
		if runner, ok := p.engine.Filter(name).(filters.Runner); ok {
			runner.Run(over)
		}
	}
}
