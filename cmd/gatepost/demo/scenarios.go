package demo

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/policy"
	"gatepost/proxy/wire"
)

// Stage is where scenarios play: the world, and the proxy in it.
type Stage struct {
	World   *World
	Address string // of the proxy
	Paper   *Paper
	Records *Records
}

// scenario is one story. play returns what was not as it should be.
type scenario struct {
	title string
	play  func(*Stage) error
}

var scenarios = []scenario{
	{"A client on a block list is refused", listed},
	{"A first-time sender is greylisted, and accepted when it comes back", greylisted},
	{"A signed message with SPF pass is delivered, with its Authentication-Results", authenticated},
	{"A forged sender is refused by the DMARC policy of the domain it forges", forged},
	{"An unknown recipient is refused in the mail server's own words", unknownRecipient},
	{"A client over its rate limit has to wait", overLimit},
	{"A client that talks before it is greeted gives itself away", earlyTalker},
	{"A smuggling attempt stays one message", smuggling},
}

// Play plays all scenarios and returns how many did not end as they should.
func (s *Stage) Play() (failed int) {
	for i, story := range scenarios {
		s.Paper.Title(i+1, story.title)
		s.Records.Reset()
		err := story.play(s)
		s.Paper.Outcome(err)
		if err != nil {
			failed++
		}
	}
	return failed
}

// want checks a reply's beginning, and shows the verdict behind it.
func (s *Stage) want(p *player, r wire.Reply, beginning, rule string) error {
	defer p.close()
	if p.err != nil {
		return p.err
	}
	p.say("QUIT")
	p.close()
	record, match := s.Records.Wait(rule)
	s.showVerdict(r, record, match)
	switch {
	case !strings.HasPrefix(r.String(), beginning):
		return fmt.Errorf("the reply is %q and not %s", r.String(), beginning)
	case rule != "" && match == nil:
		return fmt.Errorf("rule %s is not on record", rule)
	}
	return nil
}

// showVerdict names what was decided, and by which rule at which place.
func (s *Stage) showVerdict(r wire.Reply, record *policy.Record, match *policy.Match) {
	if match == nil {
		s.Paper.Verdict("no rule of ours: the mail server's own answer")
		return
	}
	rule := fmt.Sprintf("%s (%s:%d)", match.Rule.Name, match.Rule.Pos.File, match.Rule.Pos.Line)
	if r.Class() == 2 {
		s.Paper.Verdict("accept: rule %s would %s, but the sender has come back; id %s", rule, match.Rule.Action, record.ID)
		return
	}
	s.Paper.Verdict("%s by rule %s, id %s", match.Rule.Action, rule, record.ID)
}

func listed(s *Stage) error {
	s.Paper.Say("203.0.113.66 is on bl.demo.test. The refusal is spoken at RCPT, so that the log has sender and recipient.")
	p := as(s.Paper, s.Address, "203.0.113.66")
	p.say("EHLO dsl-66.spam.test")
	r := p.transaction("offers@spam.test", "alice@example.org", "")
	return s.want(p, r, "554 5.7.1", "listed")
}

func greylisted(s *Stage) error {
	s.Paper.Say("newcomer.test publishes no SPF record, and its host has no name: suspicious enough to ask it to come back.")
	message := "From: Nina <nina@newcomer.test>\r\nTo: alice@example.org\r\nSubject: Hello\r\n\r\nNice to meet you.\r\n"
	attempt := func() (*player, wire.Reply) {
		p := as(s.Paper, s.Address, "198.51.100.20")
		p.say("EHLO host.newcomer.test")
		return p, p.transaction("nina@newcomer.test", "alice@example.org", message)
	}
	p, r := attempt()
	if err := s.want(p, r, "451 4.7.1", "suspicious"); err != nil {
		return err
	}
	s.Paper.Say("Six minutes later (the demo's clock is moved):")
	s.World.Clock.Advance(6 * time.Minute)
	p, r = attempt()
	if err := s.want(p, r, "250 ", "suspicious"); err != nil {
		return err
	}
	return s.showMail("Nice to meet you.", nil)
}

func authenticated(s *Stage) error {
	s.Paper.Say("friends.test has SPF, DKIM and DMARC in order: no greylisting, and the mail server can read the results.")
	signed, err := s.World.sign("friends.test", "From: Finn <finn@friends.test>\r\nTo: alice@example.org\r\nSubject: Signed\r\n\r\nBelieve me.\r\n")
	if err != nil {
		return err
	}
	p := as(s.Paper, s.Address, "192.0.2.10")
	p.say("EHLO mail.friends.test")
	r := p.transaction("finn@friends.test", "alice@example.org", signed)
	if err := s.want(p, r, "250 ", ""); err != nil {
		return err
	}
	return s.showMail("Believe me.", []string{"Authentication-Results: mx.example.org", "spf=pass", "dkim=pass", "dmarc=pass"})
}

func forged(s *Stage) error {
	s.Paper.Say("SPF passes for forger.test on the envelope, but the letter says bank.test, which asks to refuse forgeries.")
	p := as(s.Paper, s.Address, "198.51.100.66")
	p.say("EHLO mail.forger.test")
	r := p.transaction("news@forger.test", "bob@example.org", "From: Your Bank <service@bank.test>\r\nTo: bob@example.org\r\nSubject: Urgent\r\n\r\nYour account!\r\n")
	return s.want(p, r, "550 5.7.26", "forged-enforced")
}

func unknownRecipient(s *Stage) error {
	s.Paper.Say("Only the mail server knows who lives there. Gatepost asks it, and passes its answer on.")
	p := as(s.Paper, s.Address, "192.0.2.10")
	p.say("EHLO mail.friends.test")
	r := p.transaction("finn@friends.test", "nobody@example.org", "")
	return s.want(p, r, "550 5.1.1", "")
}

func overLimit(s *Stage) error {
	s.Paper.Say("busy.test sends one message after another; three a minute are allowed. The first three:")
	p := as(&Paper{w: discard{}}, s.Address, "203.0.113.99")
	p.say("EHLO busy.test")
	for n := range 3 {
		message := fmt.Sprintf("From: news@busy.test\r\nSubject: Number %d\r\n\r\nNews.\r\n", n+1)
		r := p.transaction("news@busy.test", "bob@example.org", message)
		if r.Class() != 2 || p.err != nil {
			return fmt.Errorf("message %d is answered %q (%v)", n+1, r.String(), p.err)
		}
		s.Paper.Server(r.String())
	}
	s.Paper.Say("The fourth:")
	p.paper = s.Paper
	r := p.transaction("news@busy.test", "bob@example.org", "")
	return s.want(p, r, "451 4.7.1", "too-many-messages")
}

func earlyTalker(s *Stage) error {
	s.Paper.Say("A mail server waits for the greeting (RFC 5321, 4.3.1). Unknown clients are made to wait a moment for it.")
	p := connect(s.Paper, s.Address)
	p.send("EHLO hasty.test")
	p.read() // the greeting
	p.read() // the reply to EHLO
	r := p.transaction("offers@spam.test", "alice@example.org", "")
	return s.want(p, r, "554 5.5.1", "early-talker")
}

func smuggling(s *Stage) error {
	s.Paper.Say("The body holds <LF>.<CR><LF>, which some servers take for the end of a message, and a second message behind it.")
	before, err := s.World.mail()
	if err != nil {
		return err
	}
	p := as(s.Paper, s.Address, "192.0.2.10")
	p.say("EHLO mail.friends.test")
	r := p.transaction("finn@friends.test", "alice@example.org", "From: Finn <finn@friends.test>\r\nSubject: One message\r\n\r\nJust this one.\n.\r\n"+
		"MAIL FROM:<president@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nFrom: president@example.org\r\n\r\nYou are fired.\r\n")
	if err := s.want(p, r, "250 ", ""); err != nil {
		return err
	}
	after, err := s.World.mail()
	if err != nil {
		return err
	}
	if len(after) != len(before)+1 {
		return fmt.Errorf("the mail server has %d new messages", len(after)-len(before))
	}
	s.Paper.Say("The mail server has got one message.")
	return s.showMail("You are fired.", nil)
}

// showMail shows the fields on top of the delivered message that holds a text, and checks that they say what they should.
func (s *Stage) showMail(text string, want []string) error {
	all, err := s.World.mail()
	if err != nil {
		return err
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(content, []byte(text)) {
			continue
		}
		s.Paper.Say("In the Maildir:")
		for i, line := range strings.Split(string(content), "\r\n") {
			if line == "" || i == 12 {
				break
			}
			s.Paper.Say("  | %s", line)
		}
		for _, w := range want {
			if !bytes.Contains(content, []byte(w)) {
				return fmt.Errorf("the delivered message lacks %q", w)
			}
		}
		return nil
	}
	return fmt.Errorf("no delivered message holds %q", text)
}

// mail is the files of the Maildir.
func (w *World) mail() ([]string, error) { return filepath.Glob(filepath.Join(w.Maildir, "new", "*")) }

// sign adds a DKIM signature.
func (w *World) sign(domain, message string) (string, error) {
	var signed bytes.Buffer
	err := dkim.Sign(&signed, strings.NewReader(message), &dkim.SignOptions{Domain: domain, Selector: "demo", Signer: w.key,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed})
	return signed.String(), err
}

// discard throws away what is written.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
