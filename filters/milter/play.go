package milter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// The stages, as the fact names them.
const (
	stageConnect = "connect"
	stageHelo    = "helo"
	stageMail    = "mail"
	stageRcpt    = "rcpt"
	stageData    = "data"
	stageHeader  = "header"
	stageBody    = "body"
	stageEnd     = "end"
)

const (
	// maxPending and maxOut bound what is written before replies are read: with more, a milter that waits for us to read
	// and we who wait for it to read would wait for each other.
	maxPending = 64
	maxOut     = 32 << 10
)

// play is one message on its way through the protocol.
type play struct {
	filter *Filter
	link   *link
	ctx    context.Context
	view   filters.View

	pending []pending
	skip    bool // it has seen enough of the body

	decided  bool // it has said its last word before the end
	reusable bool // the connection can be used for a further message
	verdict  verdict
	refused  []string // recipients
	last     verdict  // of the last refused recipient
	edits    edits
}

// pending is a reply that is due.
type pending struct {
	stage     string
	recipient *filters.Recipient // of RCPT
}

func (p *play) run() error {
	groups := [...]func() error{p.envelope, p.header, p.body}
	for _, group := range groups {
		if err := group(); err != nil || p.decided {
			return err
		}
	}
	p.reusable = p.verdict.action == actionContinue || p.verdict.action == actionAccept
	return nil
}

// due notes that a reply to a command will come, unless it was agreed that none does.
func (p *play) due(stage string, noReply milter.OptProtocol, recipient *filters.Recipient) {
	if !p.link.agrees(noReply) {
		p.pending = append(p.pending, pending{stage, recipient})
	}
}

// flush writes what is there and reads the replies that are due, until one of them is the last word.
func (p *play) flush() error {
	if len(p.link.out) > 0 {
		if err := p.link.write(p.ctx); err != nil {
			return err
		}
	}
	for _, due := range p.pending {
		if err := p.answer(due); err != nil || p.decided {
			return err
		}
	}
	p.pending = p.pending[:0]
	return nil
}

// envelope tells who the client is, unless the milter knows, and what it said up to DATA.
func (p *play) envelope() error {
	l := p.link
	if !l.knows(p.view.Session, p.view.Greeting) {
		if err := p.client(); err != nil || p.decided {
			return err
		}
		l.session, l.greeting = p.view.Session, p.view.Greeting
	}
	if !l.agrees(milter.OptNoMailFrom) {
		p.tellMacros(milter.CodeMail, milter.StageMailFrom, p.mailMacros(), nil)
		l.out = wire.AppendTexts(l.out, byte(milter.CodeMail), path(p.view.Envelope.ReversePath, p.view.Envelope.Params)...)
		p.due(stageMail, milter.OptNoMailReply, nil)
	}
	for _, r := range p.view.Recipients {
		if l.agrees(milter.OptNoRcptTo) {
			break
		}
		p.tellMacros(milter.CodeRcpt, milter.StageRcptTo, p.rcptMacros(r), r)
		l.out = wire.AppendTexts(l.out, byte(milter.CodeRcpt), path(r.ForwardPath, r.Params)...)
		p.due(stageRcpt, milter.OptNoRcptReply, r)
		if err := p.bounded(); err != nil || p.decided {
			return err
		}
	}
	const dataVersion = 4 // SMFIC_DATA is unknown before
	if l.agreed.Version >= dataVersion && !l.agrees(milter.OptNoData) {
		p.tellMacros(milter.CodeData, milter.StageData, p.idMacros(), nil)
		l.out = wire.Append[string](l.out, byte(milter.CodeData))
		p.due(stageData, milter.OptNoDataReply, nil)
	}
	return p.flush()
}

// client tells who it is. Where the milter knew another one before, it has to answer that before it hears more: opendkim
// and clamav-milter pass over a CONNECT behind SMFIC_QUIT_NC without a word, and would go on with no idea of the client.
func (p *play) client() error {
	l := p.link
	if l.handedOn {
		l.out = wire.Append[string](l.out, byte(milter.CodeQuitNewConn))
	}
	if !l.agrees(milter.OptNoConnect) {
		connect := p.connect()
		p.tellMacros(milter.CodeConn, milter.StageConnect, p.connectMacros(), nil)
		l.out = connect.AppendTo(l.out)
		p.due(stageConnect, milter.OptNoConnReply, nil)
	}
	if l.handedOn {
		if err := p.flush(); err != nil || p.decided {
			return err
		}
	}
	if !l.agrees(milter.OptNoHelo) {
		p.tellMacros(milter.CodeHelo, milter.StageHelo, p.heloMacros(), nil)
		l.out = wire.AppendTexts(l.out, byte(milter.CodeHelo), p.view.Greeting.Name)
		p.due(stageHelo, milter.OptNoHeloReply, nil)
	}
	return nil
}

// path is the argument of MAIL or RCPT and its parameters.
func path(address string, params []filters.Param) []string {
	texts := []string{"<" + address + ">"}
	for _, param := range params {
		text := param.Key
		if param.HasValue {
			text += "=" + param.Value
		}
		texts = append(texts, text)
	}
	return texts
}

// bounded flushes where much is under way.
func (p *play) bounded() error {
	if len(p.pending) < maxPending && len(p.link.out) < maxOut {
		return nil
	}
	return p.flush()
}

// before is what milters have changed whose work this one is to see.
func (p *play) before() *filters.Changes {
	if p.filter.config.After == "" {
		return nil
	}
	return p.view.Facts.Changes(specName + "." + p.filter.config.After)
}

func (p *play) header() error {
	l := p.link
	header, err := p.view.Message.Header(p.ctx)
	switch {
	case err != nil:
		return err
	case header.Cut:
		return errors.New("the header is too long to be shown to a milter")
	}
	draft, before := filters.NewDraft(header, p.filter.env.Drops), p.before()
	draft.Apply(before)
	for name, raw := range draft.After(before) {
		if l.agrees(milter.OptNoHeaders) {
			break
		}
		l.out = wire.AppendTexts(l.out, byte(milter.CodeHeader), name, l.value(name, raw))
		p.due(stageHeader, milter.OptNoHeaderReply, nil)
		if err := p.bounded(); err != nil || p.decided {
			return err
		}
	}
	if !l.agrees(milter.OptNoEOH) {
		p.tellMacros(milter.CodeEOH, milter.StageEOH, nil, nil)
		l.out = wire.Append[string](l.out, byte(milter.CodeEOH))
		p.due(stageHeader, milter.OptNoEOHReply, nil)
	}
	return p.flush()
}

// value is a field's value as milters get it: folding with LF alone and, if that was agreed, with the blank behind the
// colon. libmilter takes no frame that is larger than a chunk of the body.
func (l *link) value(name string, raw []byte) string {
	_, value, _ := bytes.Cut(raw, []byte{':'})
	value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	if !l.agrees(milter.OptHeaderLeadingSpace) {
		value = bytes.TrimPrefix(value, []byte(" "))
	}
	text := strings.ReplaceAll(string(value), "\r\n", "\n")
	return text[:min(len(text), maxChunk-len(name)-len("\x00\x00"))]
}

var chunks = sync.Pool{New: func() any { return new([maxChunk]byte) }}

// body sends the body while it arrives, as long as the milter wants it, and the end.
func (p *play) body() error {
	content, err := p.content()
	if err != nil {
		return err
	}
	chunk := chunks.Get().(*[maxChunk]byte)
	defer chunks.Put(chunk)
	for ended := false; !ended; {
		if p.link.agrees(milter.OptNoBody) || p.skip {
			if _, err := io.Copy(io.Discard, content); err != nil { // the message is to be complete before its end is told
				return err
			}
			break
		}
		n, err := io.ReadFull(content, chunk[:])
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			ended = true
		default:
			return err
		}
		if n > 0 {
			p.link.out = wire.Append(p.link.out, byte(milter.CodeBody), chunk[:n])
			p.due(stageBody, milter.OptNoBodyReply, nil)
		}
		if !ended {
			if err := p.flush(); err != nil || p.decided {
				return err
			}
		}
	}
	p.tellMacros(milter.CodeEOB, milter.StageEOM, p.idMacros(), nil)
	p.link.out = wire.Append[string](p.link.out, byte(milter.CodeEOB))
	p.due(stageEnd, 0, nil)
	return p.flush()
}

// content is the message's body, or what a milter before has put in its place.
func (p *play) content() (io.Reader, error) {
	for c := p.before(); c != nil; c = c.After {
		if c.Body != nil {
			if _, err := io.Copy(io.Discard, p.view.Message.Reader(p.ctx)); err != nil {
				return nil, err
			}
			return bytes.NewReader(c.Body), nil
		}
	}
	header, err := p.view.Message.Header(p.ctx)
	if err != nil {
		return nil, err
	}
	r := p.view.Message.Reader(p.ctx)
	if _, err := io.CopyN(io.Discard, r, int64(header.Size)+int64(len("\r\n"))); err != nil && err != io.EOF {
		return nil, fmt.Errorf("the header: %w", err)
	}
	return r, nil
}
