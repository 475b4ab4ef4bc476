package policyserver

import (
	"strconv"
	"strings"
	"testing"

	"gatepost/proxy"
	"gatepost/proxy/called/calledtest"
)

func TestSessionsThroughBothFronts(t *testing.T) {
	calledtest.Table{
		Front: "policy server", Folder: "../testdata", Hold: holdByPolicyServer, Sees: calledtest.Sees{},
	}.Run(t)
}

func holdByPolicyServer(t *testing.T, s *calledtest.Script) calledtest.Outcome {
	u := s.Setup()
	if u.Policy.Domains == nil {
		u.Policy.Domains = []string{}
	}
	h := start(t, &setup{domains: u.Policy.Domains, trusted: u.Policy.Trusted, rules: u.Policy.Rules, zone: u.Policy.Zone,
		limits: func(l *proxy.Limits) { *l = u.Limits }})
	ask := func() (calledtest.Asker, error) {
		p, err := h.dial()
		if err != nil {
			return nil, err
		}
		p.a["helo_name"] = ""
		return &asker{postfix: p}, nil
	}
	return calledtest.HoldByMTA(t, s, ask, h.journal, func() { h.server.Shutdown(t.Context()) })
}

// asker is how Postfix asks at every stage (smtpd_delay_reject = no), up to DATA.
type asker struct {
	*postfix
	fields string // PREPEND
	kept   bool   // HOLD or DISCARD
}

func (a *asker) told(state string) (calledtest.Answer, error) {
	action, err := a.request(state)
	word, rest, _ := strings.Cut(action, " ")
	switch {
	case err != nil || word == "DUNNO":
	case word == "PREPEND":
		a.fields += rest + "\r\n"
	case word == "HOLD" || word == "DISCARD":
		a.kept = true
	case word == "DEFER_IF_PERMIT":
		return calledtest.Answer{Reply: "450 " + rest}, nil
	default:
		return calledtest.Answer{Reply: action}, nil
	}
	return calledtest.Answer{}, err
}

func (a *asker) Connect() (calledtest.Answer, error) { return a.told("CONNECT") }

func (a *asker) Helo(verb, name string) (calledtest.Answer, error) {
	a.a["helo_name"], a.a["protocol_name"] = name, map[string]string{"EHLO": "ESMTP", "HELO": "SMTP"}[verb]
	return a.told(verb)
}

// Mail comes before Postfix has a new name for the transaction.
func (a *asker) Mail(path string, params []string) (calledtest.Answer, error) {
	a.a["sender"], a.a["size"], a.fields, a.kept = strings.Trim(path, "<>"), "0", "", false
	for _, p := range params {
		if size, ok := strings.CutPrefix(strings.ToUpper(p), "SIZE="); ok {
			a.a["size"] = size
		}
	}
	defer func() { a.seq++; a.a["instance"] = strconv.Itoa(a.seq) }()
	return a.told("MAIL")
}

// Rcpt has no source route: Postfix drops it (RFC 5321, 3.3).
func (a *asker) Rcpt(path string, _ []string) (calledtest.Answer, error) {
	a.a["recipient"] = path[strings.LastIndexAny(path, "<:")+1 : len(path)-1]
	return a.told("RCPT")
}

// Rejected is not told: Postfix asks behind reject_unlisted_recipient.
func (a *asker) Rejected(string, []string, string, string) error { return nil }

func (a *asker) Data() (calledtest.Answer, error) {
	a.a["queue_id"] = calledtest.QueueID
	defer delete(a.a, "queue_id")
	return a.told("DATA")
}

func (a *asker) Message(text []byte) (calledtest.Answer, []byte, error) {
	if a.kept {
		return calledtest.Answer{}, nil, nil
	}
	return calledtest.Answer{}, append([]byte(a.fields), text...), nil
}

func (a *asker) Reset() error { return nil }

func (a *asker) Quit() error { return a.conn.Close() }
