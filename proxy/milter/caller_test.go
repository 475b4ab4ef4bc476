package milter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
	"gatepost/proxy/called/calledtest"
)

// caller calls a milter as Postfix and sendmail do. It shares the codec with what it tests, and nothing else;
// TestLibraryCalls calls with another implementation.
type caller struct {
	conn   net.Conn
	r      *wire.Reader
	offer  wire.Negotiation
	agreed wire.Negotiation
	values map[string]string // of all macros that could be told
	asked  map[milter.Code][]string
	sent   []byte // the frames of one exchange go in one write, as those of MTAs do
}

// answer is what a milter said to one command.
type answer struct {
	code     byte // of the last frame; 0: there is none, as agreed
	reply    string
	edits    []edit
	held     string // the reason of a quarantine
	progress int
}

type edit struct {
	code byte
	wire.HeaderEdit
}

// fullOffer is what Postfix 3.7 and sendmail 8.17 offer.
var fullOffer = wire.Negotiation{Version: 6, Actions: 0x1ff, Protocol: 0x1fffff}

var errTorn = errors.New("the milter has closed the connection")

func call(network, address string, offer wire.Negotiation) (*caller, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return callOver(conn, offer)
}

// callOver negotiates. On error the connection is closed.
func callOver(conn net.Conn, offer wire.Negotiation) (*caller, error) {
	c := &caller{conn: conn, r: wire.NewReader(conn), offer: offer, values: map[string]string{}, asked: map[milter.Code][]string{}}
	if _, err := conn.Write(offer.AppendTo(nil)); err != nil {
		conn.Close()
		return nil, err
	}
	code, data, err := c.frame()
	if err == nil && code != byte(milter.CodeOptNeg) {
		err = fmt.Errorf("%q is no answer to the negotiation", code)
	}
	if err == nil {
		c.agreed, err = wire.ParseNegotiation(data)
	}
	switch {
	case err != nil:
	case c.agreed.Version > offer.Version || c.agreed.Actions&^offer.Actions != 0 || c.agreed.Protocol&^offer.Protocol != 0:
		err = fmt.Errorf("%+v was not offered", c.agreed) // MTAs hang up
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	stages := []milter.Code{milter.CodeConn, milter.CodeHelo, milter.CodeMail, milter.CodeRcpt, milter.CodeData, milter.CodeEOB, milter.CodeEOH}
	for _, m := range c.agreed.Macros {
		c.asked[stages[m.Stage]] = m.Names
	}
	return c, nil
}

func (c *caller) frame() (byte, []byte, error) {
	code, _, err := c.r.Next()
	if err != nil {
		return 0, nil, errors.Join(errTorn, err)
	}
	data, err := c.r.Data()
	return code, data, err
}

func (c *caller) has(option milter.OptProtocol) bool { return c.agreed.Protocol&option != 0 }

// macros goes before a command, with what the milter has asked for.
func (c *caller) macros(command milter.Code) {
	var pairs []string
	for _, name := range c.asked[command] {
		if value := c.values[name]; value != "" {
			pairs = append(pairs, name, value)
		}
	}
	c.sent = wire.AppendMacros(c.sent, command, pairs...)
}

// ask sends what was gathered and reads the answer.
func (c *caller) ask(silent milter.OptProtocol) (a answer, err error) {
	if err := c.send(); err != nil || c.has(silent) {
		return answer{}, err
	}
	for {
		code, data, err := c.frame()
		if err != nil {
			return a, err
		}
		a.code = code
		switch code {
		case 'p':
			a.progress++
		case 'q':
			a.held = wire.Text(data)
		case 'i', 'm', 'h':
			e, ok := wire.ParseHeaderEdit(data)
			if !ok {
				return a, fmt.Errorf("a malformed edit %q", data)
			}
			a.edits = append(a.edits, edit{code, e})
		case 'y':
			status, lines, ok := wire.ParseReply(data)
			if !ok {
				return a, fmt.Errorf("a malformed reply %q", data)
			}
			for i, line := range lines {
				separator := "-"
				if i == len(lines)-1 {
					separator = " "
				}
				a.reply += fmt.Sprintf("%d%s%s\r\n", status, separator, line)
			}
			a.reply = strings.TrimSuffix(a.reply, "\r\n")
			return a, nil
		case 't':
			a.reply = "451 4.7.1 Service unavailable - try again later"
			return a, nil
		case 'r':
			a.reply = "550 5.7.1 Command rejected"
			return a, nil
		default:
			return a, nil
		}
	}
}

func (c *caller) send() error {
	_, err := c.conn.Write(c.sent)
	c.sent = c.sent[:0]
	return err
}

func (c *caller) connect(client wire.Connect) (answer, error) {
	c.macros(milter.CodeConn)
	c.sent = client.AppendTo(c.sent)
	return c.ask(milter.OptNoConnReply)
}

func (c *caller) helo(name string) (answer, error) {
	c.macros(milter.CodeHelo)
	c.sent = wire.AppendTexts(c.sent, 'H', name)
	return c.ask(milter.OptNoHeloReply)
}

func (c *caller) mail(args ...string) (answer, error) {
	c.macros(milter.CodeMail)
	c.sent = wire.AppendTexts(c.sent, 'M', args...)
	return c.ask(milter.OptNoMailReply)
}

func (c *caller) rcpt(args ...string) (answer, error) {
	c.macros(milter.CodeRcpt)
	c.sent = wire.AppendTexts(c.sent, 'R', args...)
	return c.ask(milter.OptNoRcptReply)
}

// rejected tells of a recipient that the MTA has refused.
func (c *caller) rejected(enhanced, text string, args ...string) error {
	if !c.has(milter.OptRcptRej) {
		return nil
	}
	c.values["{rcpt_mailer}"], c.values["{rcpt_host}"], c.values["{rcpt_addr}"] = "error", enhanced, text
	defer func() { delete(c.values, "{rcpt_mailer}") }()
	_, err := c.rcpt(args...)
	return err
}

func (c *caller) data() (answer, error) {
	if c.has(milter.OptNoData) || c.offer.Version < 4 {
		return answer{code: 'c'}, nil
	}
	c.macros(milter.CodeData)
	c.sent = wire.Append[string](c.sent, 'T')
	return c.ask(milter.OptNoDataReply)
}

// message sends header, body and their end. skipped tells that the milter did not want all of the body.
func (c *caller) message(text []byte) (a answer, skipped bool, err error) {
	head, body := calledtest.Split(text)
	for _, f := range calledtest.Fields(head) {
		value := f.Value
		if !c.has(milter.OptHeaderLeadingSpace) {
			value = strings.TrimPrefix(value, " ")
		}
		c.macros(milter.CodeHeader)
		c.sent = wire.AppendTexts(c.sent, 'L', f.Name, value)
		if a, err = c.ask(milter.OptNoHeaderReply); err != nil || a.reply != "" {
			return a, false, err
		}
	}
	if !c.has(milter.OptNoEOH) {
		c.macros(milter.CodeEOH)
		c.sent = wire.Append[string](c.sent, 'N')
		if a, err = c.ask(milter.OptNoEOHReply); err != nil || a.reply != "" {
			return a, false, err
		}
	}
	if !c.has(milter.OptNoBody) {
		for chunk := range slices.Chunk(body, milter.MaxBodyChunk) {
			c.sent = wire.Append(c.sent, 'B', chunk)
			if a, err = c.ask(milter.OptNoBodyReply); err != nil || a.reply != "" {
				return a, false, err
			}
			if skipped = a.code == byte(milter.ActSkip); skipped {
				break
			}
		}
	}
	c.macros(milter.CodeEOB)
	c.sent = wire.Append[string](c.sent, 'E')
	a, err = c.ask(0)
	return a, skipped, err
}

func (c *caller) abort() error {
	c.sent = wire.Append[string](c.sent, 'A')
	return c.send()
}

// quit ends the session and waits for the milter to close.
func (c *caller) quit() error {
	defer c.conn.Close()
	c.sent = wire.Append[string](c.sent, 'Q')
	if err := c.send(); err != nil {
		return err
	}
	if code, _, err := c.frame(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("behind QUIT: %q, %v", code, err)
	}
	return nil
}

// apply makes the edits as MTAs do: one by one, with indexes that count what is left.
func (c *caller) apply(text []byte, edits []edit) ([]byte, error) {
	head, body := calledtest.Split(text)
	list := calledtest.Fields(head)
	for _, e := range edits {
		value := e.Value
		if !c.has(milter.OptHeaderLeadingSpace) {
			value = " " + value
		}
		switch e.code {
		case 'i':
			list = slices.Insert(list, min(int(e.Index), len(list)), calledtest.Field{Name: e.Name, Value: value})
		case 'm':
			at, count := -1, uint32(0)
			for i, f := range list {
				if strings.EqualFold(f.Name, e.Name) {
					if count++; count == e.Index {
						at = i
						break
					}
				}
			}
			if at < 0 || e.Value != "" {
				return nil, fmt.Errorf("there is no %s number %d", e.Name, e.Index)
			}
			list = slices.Delete(list, at, at+1)
		default:
			return nil, fmt.Errorf("%q was not agreed", e.code)
		}
	}
	var b bytes.Buffer
	for _, f := range list {
		b.WriteString(strings.ReplaceAll(f.Name+":"+f.Value, "\n", "\r\n") + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes(), nil
}
