package milter

import (
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/proxy/called"
	"gatepost/proxy/front"
	smtp "gatepost/proxy/wire"
	"gatepost/rules"
)

// transaction is a mail transaction: MAIL, RCPT, and the message (RFC 5321, 3.3).
type transaction struct {
	envelope *filters.Envelope
	fault    rules.Reply // why the message is not going to pass; Code 0: all is well
	message  *filters.Message
	memory   front.Claim // of the message
	head     []byte      // fields that are not in the message yet
	headDone bool
	leave    bool // nobody reads the body
	size     int64
}

// release gives back what the transaction holds, behind conclude.
func (tx *transaction) release(conclude func(size int64)) {
	defer tx.memory.Release()
	if tx.message == nil {
		conclude(0)
		return
	}
	tx.message.Abort(errAbandoned)
	defer tx.message.Release()
	conclude(tx.message.Size())
}

// conclude ends the transaction and tells the gate how. It waits for filters that nobody waits for any more, so the MTA
// is answered before.
func (s *session) conclude(e policy.Ending) error {
	tx := s.tx
	err := s.flush()
	if err != nil {
		e.Note = strings.TrimPrefix(e.Note+"; MTA left before the reply", "; ")
	}
	s.tx = nil
	e.QueueID = printable(s.macros.get(queueID))
	tx.release(func(size int64) {
		e.Size = size
		s.gate.Conclude(e)
	})
	s.macros.forget(withMail)
	return err
}

// abandon ends a transaction that has come to no end.
func (s *session) abandon(note string) {
	if tx := s.tx; tx != nil {
		s.tx = nil
		tx.release(func(size int64) { s.gate.Conclude(policy.Ending{Note: note, Size: size}) })
	}
}

// mail starts a transaction. One that is still open has been given up: not every MTA says so with ABORT.
func (s *session) mail(data []byte) {
	if !s.hasClient("MAIL") {
		return
	}
	s.abandon("MAIL")
	s.macros.forget(withRcpt)
	if !s.identify() {
		return
	}
	address, params := parseEnvelope(data, smtp.ParseMail, "FROM:")
	s.serial++
	s.tx = &transaction{envelope: &filters.Envelope{
		ID:          s.info.ID + "." + strconv.Itoa(s.serial),
		ReversePath: address,
		Params:      params,
		Size:        declaredSize(params),
		UTF8:        param(params, "SMTPUTF8") != nil,
		Started:     s.server.clock.Now(),
	}}
	v := s.gate.Mail(s.within(s.service().Limits.EnvelopeBudget), s.tx.envelope)
	if reply, refused := s.verdict(v); refused {
		s.conclude(policy.Ending{Reply: reply, Ours: true})
	}
}

// identify makes known what the MTA tells at MAIL only: who has signed in. It answers where that is the end of it.
//
// Who signs in hands in mail of his own, on whatever port: the session begins anew as one of those, so that what is known
// about mail servers is not held against him. Mail that did not come by SMTP has no HELO.
func (s *session) identify() bool {
	name := s.info.VerifiedName()
	if s.greeting != nil {
		name = s.greeting.Name
	}
	g := s.newGreeting(name)
	if sameGreeting(s.greeting, g) {
		return true
	}
	if g.AuthUser != "" && !s.info.Submission && !s.restart() {
		return false
	}
	s.greeting = g
	v := s.gate.Helo(s.within(s.service().Limits.GreetingBudget), g)
	if !stops(v) {
		return true
	}
	s.verdict(v)
	return false
}

// restart begins the client's session anew, as one of a user.
func (s *session) restart() bool {
	info := *s.info
	info.ID, info.Submission = s.server.ids.Next(s.server.clock.Now()), true
	s.conn.Note = "signed in"
	s.Leave()
	s.info, s.serial = &info, 0
	start := len(s.out)
	if s.begin(); s.refused != nil {
		return false
	}
	s.out = s.out[:start] // what it has answered answers nothing here
	return true
}

// rcpt adds a recipient. The MTA has checked it before it asks, so the backend's word in the proxy is here already.
func (s *session) rcpt(data []byte) {
	switch {
	case !s.hasClient("RCPT"):
		return
	case s.tx == nil || s.tx.message != nil:
		s.misplaced("RCPT")
		return
	}
	address, params := parseEnvelope(data, smtp.ParseRcpt, "TO:")
	ctx := s.within(s.service().Limits.EnvelopeBudget)
	v := s.gate.Rcpt(ctx, &filters.Recipient{ForwardPath: address, Params: params})
	if s.macros[withRcpt][rcptMailer] == "error" { // told for information, as we asked: our answer changes nothing
		if !stops(v) {
			s.gate.Refused(s.rejection())
		}
		s.proceed()
		return
	}
	if !stops(v) {
		delay := v.Delay
		v = s.gate.Accepted(ctx)
		v.Delay += delay
	}
	if stops(v) && s.withoutSMTP() {
		// Nobody is there to hear it: Postfix takes a refusal for a mistake in its configuration and keeps the message.
		// All of it is refused at its end instead; it must not go to some recipients and be lost for others.
		if s.tx.fault.Code == 0 {
			s.tx.fault = s.replyOf(v)
		}
		s.proceed()
		return
	}
	s.verdict(v)
}

// withoutSMTP tells that the message reached the MTA by the command sendmail or the like (non_smtpd_milters): no client
// has no port.
func (s *session) withoutSMTP() bool {
	return s.info.Client.Port == 0 && s.info.Client.IP.IsLoopback()
}

// rejection is the MTA's own refusal of a recipient: enhanced code and text come in macros.
func (s *session) rejection() rules.Reply {
	r := rules.Reply{Code: 550, Enhanced: "5.1.1", Text: printable(s.macros[withRcpt][rcptAddr])}
	if status := s.macros[withRcpt][rcptHost]; len(status) >= len("4.0.0") && len(status) <= len("4.999.999") && (status[:2] == "4." || status[:2] == "5.") {
		r.Enhanced = printable(status)
		if status[0] == '4' {
			r.Code = 450
		}
	}
	return r
}

// parseEnvelope reads the argument of MAIL or RCPT as the SMTP front end does. What it would not have taken, such as an
// address without brackets that the MTA has made itself, counts as it is.
func parseEnvelope(data []byte, parse func(string) (smtp.Path, []filters.Param, error), keyword string) (string, []filters.Param) {
	path, args := wire.Envelope(data)
	if !strings.HasPrefix(path, "<") {
		path = "<" + path + ">"
	}
	p, params, err := parse(keyword + strings.Join(append([]string{path}, args...), " "))
	if err == nil {
		return p.Address, params
	}
	for _, arg := range args {
		key, value, found := strings.Cut(printable(arg), "=")
		params = append(params, filters.Param{Key: key, Value: value, HasValue: found})
	}
	return called.Clean(strings.TrimSuffix(path[1:], ">"), maxAddress), params
}

func param(params []filters.Param, key string) *filters.Param {
	for i := range params {
		if strings.EqualFold(params[i].Key, key) {
			return &params[i]
		}
	}
	return nil
}

func declaredSize(params []filters.Param) int64 {
	if p := param(params, "SIZE"); p != nil {
		if n, err := strconv.ParseInt(p.Value, 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return 0
}
