package milter

import (
	"testing"

	"github.com/emersion/go-milter"

	"gatepost/proxy"
	"gatepost/proxy/called/calledtest"
)

func TestSessionsThroughBothFronts(t *testing.T) {
	calledtest.Table{
		Front: "milter", Folder: "../testdata", Hold: holdByMilter,
		Sees: calledtest.Sees{Messages: true, Rejected: true, Absent: map[string]string{
			"helo.extended": "Postfix does not tell EHLO from HELO",
			"message.size":  "where nothing reads it, the body is left out",
		}},
	}.Run(t)
}

func holdByMilter(t *testing.T, s *calledtest.Script) calledtest.Outcome {
	u := s.Setup()
	h := start(t, setup{domains: u.Policy.Domains, trusted: u.Policy.Trusted, specs: u.Policy.Specs, rules: u.Policy.Rules, zone: u.Policy.Zone,
		spill: u.Spill, limits: func(l *proxy.Limits) { *l = u.Limits }})
	ask := func() (calledtest.Asker, error) {
		c, err := call(h.network, h.address, fullOffer)
		if err != nil {
			return nil, err
		}
		c.values["v"], c.values["{daemon_name}"], c.values["j"] = "Postfix 3.7.11", calledtest.Hostname, calledtest.Hostname
		return asker{c}, nil
	}
	return calledtest.HoldByMTA(t, s, ask, h.journal, func() { h.server.Shutdown(t.Context()) })
}

// asker is how Postfix asks a milter.
type asker struct{ *caller }

func (a asker) Connect() (calledtest.Answer, error) { return told(a.connect(stranger)) }

func (a asker) Helo(_, name string) (calledtest.Answer, error) { return told(a.helo(name)) }

func (a asker) Mail(path string, params []string) (calledtest.Answer, error) {
	return told(a.mail(append([]string{path}, params...)...))
}

func (a asker) Rcpt(path string, params []string) (calledtest.Answer, error) {
	a.values["i"] = calledtest.QueueID
	return told(a.rcpt(append([]string{path}, params...)...))
}

func (a asker) Rejected(path string, params []string, status, text string) error {
	return a.rejected(status, text, append([]string{path}, params...)...)
}

func (a asker) Data() (calledtest.Answer, error) { return told(a.data()) }

func (a asker) Message(text []byte) (calledtest.Answer, []byte, error) {
	got, _, err := a.message(text)
	if err != nil || got.reply != "" || got.code == byte(milter.ActDiscard) || got.held != "" {
		return calledtest.Answer{Reply: got.reply}, nil, err
	}
	text, err = a.apply(text, got.edits)
	return calledtest.Answer{}, text, err
}

func (a asker) Reset() error { return a.abort() }

func (a asker) Quit() error { return a.quit() }

func told(a answer, err error) (calledtest.Answer, error) {
	return calledtest.Answer{Reply: a.reply}, err
}
