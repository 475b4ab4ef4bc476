package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gatepost/proxy/backend"
	"gatepost/proxy/wire"
)

// Outcome is what the backend has said to a message that was released.
type Outcome struct {
	ID         string             `json:"id"`
	Backend    string             `json:"backend,omitempty"` // its address
	Delivered  bool               `json:"delivered"`         // it has taken the message, for somebody at least
	Reply      string             `json:"reply,omitempty"`   // its last word on the transaction; empty: it has taken no recipient
	Recipients []RecipientOutcome `json:"recipients"`
	Left       int                `json:"left"` // recipients for whom the message stays in quarantine
}

// RecipientOutcome is what it has said to one recipient.
type RecipientOutcome struct {
	Address   string `json:"address"`
	Delivered bool   `json:"delivered"`
	Reply     string `json:"reply,omitempty"`
}

// Release gives a message to the backend and removes it when the backend has taken it for all recipients. A refusal is no
// error: the outcome has it, and those refused stay. An error means that nobody knows, or that nobody was asked. ctx
// bounds the envelope; the message itself, once it is on its way, is awaited as that of a client is.
func (q *Quarantine) Release(ctx context.Context, id string) (*Outcome, error) {
	i, err := q.take(id)
	if err != nil {
		return nil, err
	}
	o, gone, err := q.release(ctx, i)
	if gone {
		q.forget(i)
		q.metrics.Released.Add(1)
	} else {
		q.leave(i)
	}
	return o, err
}

func (q *Quarantine) release(ctx context.Context, i *item) (o *Outcome, gone bool, err error) {
	e, err := readEntry(q.config.about(i.id), i.id)
	if err != nil {
		return nil, false, err
	}
	message, err := os.Open(q.config.File(i.id))
	if err != nil {
		return nil, false, err
	}
	defer message.Close()
	if err := verify(message, e); err != nil {
		return nil, false, err
	}
	d := &delivery{entry: e, message: message, base: q.base}
	group, done := q.backend()
	defer done()
	if err := d.offer(ctx, group); err != nil {
		return nil, false, err
	}
	o = d.outcome()
	if !o.Delivered {
		return o, false, nil
	}
	now := q.clock.Now().UTC()
	for n, r := range d.recipients {
		if o.Recipients[n].Delivered {
			r.Released = now
		}
	}
	if o.Left == 0 {
		err = q.remove(i.id)
	} else if err = q.writeAbout(e); err == nil {
		q.measure(i, e)
	}
	if err != nil {
		q.failed("a message was delivered, and its files cannot be changed: released again, it would be delivered again", i.id, err)
		return o, false, fmt.Errorf("the backend has taken the message, but its files cannot be changed: do not release it again: %w", err)
	}
	return o, o.Left == 0, nil
}

// measure counts the side file anew.
func (q *Quarantine) measure(i *item, e *Entry) {
	if about, err := os.Stat(q.config.about(i.id)); err == nil {
		q.resize(i, e.Size+about.Size())
	}
}

// verify reads a message once: a disk may have changed it since.
func verify(message io.ReadSeeker, e *Entry) error {
	digest := sha256.New()
	n, err := io.Copy(digest, message)
	if err != nil {
		return err
	}
	if n != e.Size || hex.EncodeToString(digest.Sum(nil)) != e.Digest {
		return errors.New("the message is not what was kept: its file was changed or damaged")
	}
	return nil
}

// delivery is a message on its way to a backend.
type delivery struct {
	entry   *Entry
	message io.ReaderAt
	base    context.Context // for the message

	recipients []*Recipient // those that it is released for
	address    string       // the backend's
	mail       wire.Reply
	rcpts      []wire.Reply // fewer than recipients if the backend had said its last word
	final      wire.Reply   // Code 0: the message was not sent
}

const (
	envelopeTime = time.Minute // for connection and envelope; the proxy's clients are not granted more
	attempts     = 3
	batch        = 50 // commands that are sent before their replies are read
)

// offer gives the message to the first backend that can be had.
func (d *delivery) offer(ctx context.Context, group *backend.Group) error {
	if group == nil {
		return errors.New("no backend is configured to which it could be released")
	}
	if err := group.Ready(); err != nil {
		return err
	}
	for i := range d.entry.Recipients {
		if r := &d.entry.Recipients[i]; r.Released.IsZero() {
			d.recipients = append(d.recipients, r)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, envelopeTime)
	defer cancel()
	client := d.entry.client()
	conn, err := group.Dial(ctx, client)
	for n := 1; ; n++ {
		if err != nil {
			return err
		}
		d.address = conn.Address()
		lost, err := d.transact(ctx, conn)
		if err == nil {
			conn.Release()
			return nil
		}
		if lost || n == attempts {
			conn.Close()
			return err
		}
		if conn, err = group.DialNext(ctx, client, conn); err != nil {
			return err
		}
	}
}

// transact says the envelope and sends the message. lost tells that nobody knows what became of it.
func (d *delivery) transact(ctx context.Context, conn *backend.Conn) (lost bool, err error) {
	d.mail, d.rcpts, d.final = wire.Reply{}, nil, wire.Reply{}
	taken, err := d.envelope(ctx, conn)
	if err != nil || !taken {
		return false, err
	}
	if err := d.base.Err(); err != nil {
		return true, errClosed
	}
	final, lost, err := conn.SendMessage(d.base, d.parts(), 0)
	if err != nil {
		if lost {
			err = fmt.Errorf("the backend was lost behind the end of the message: it may have been delivered; released again, it may come twice: %w", err)
		}
		return lost, err
	}
	d.final = final
	return false, nil
}

// envelope tells whether the backend has taken sender and somebody.
func (d *delivery) envelope(ctx context.Context, conn *backend.Conn) (taken bool, err error) {
	lines := d.lines()
	for len(lines) > 0 {
		part := lines[:min(batch, len(lines))]
		lines = lines[len(part):]
		for _, line := range part {
			conn.Queue(line)
		}
		for range part {
			r, err := conn.Reply(ctx)
			if err != nil {
				return false, err
			}
			if d.mail.Code == 0 {
				d.mail = r
			} else {
				d.rcpts = append(d.rcpts, r)
			}
			if r.Code == 421 { // its last word
				return false, nil
			}
			taken = taken || len(d.rcpts) > 0 && r.Class() == 2
		}
		if d.mail.Class() != 2 {
			return false, nil
		}
	}
	return taken, nil
}

// lines are the commands, as the client gave them; a source route is left out (RFC 5321, 3.3).
func (d *delivery) lines() [][]byte {
	e := d.entry
	lines := [][]byte{wire.AppendParams([]byte("MAIL FROM:<"+e.ReversePath+">"), e.Params)}
	for _, r := range d.recipients {
		lines = append(lines, wire.AppendParams([]byte("RCPT TO:<"+r.Address+">"), r.Params))
	}
	return lines
}

func (d *delivery) parts() backend.Parts {
	e := d.entry
	p := backend.Parts{Prepend: e.Prepend, Body: kept{d.message, e}, Size: e.Size + int64(len(e.Prepend))}
	for _, cut := range e.Cut {
		p.Size -= cut.End - cut.Start
	}
	for _, param := range e.Params {
		p.Binary = p.Binary || strings.EqualFold(param.Key, "BODY") && strings.EqualFold(param.Value, "BINARYMIME")
	}
	return p
}

// kept is a message without the ranges that are left out.
type kept struct {
	message io.ReaderAt
	entry   *Entry
}

// WriteTo writes what is left.
func (k kept) WriteTo(w io.Writer) (written int64, err error) {
	start := int64(0)
	part := func(end int64) error {
		n, err := io.Copy(w, io.NewSectionReader(k.message, start, end-start))
		written += n
		return err
	}
	for _, cut := range k.entry.Cut {
		if err := part(cut.Start); err != nil {
			return written, err
		}
		start = cut.End
	}
	return written, part(k.entry.Size)
}

// client is in whose name the message goes. A user who had handed it in is named where the backend takes names.
func (e *Entry) client() backend.Client {
	c := e.Client
	return backend.Client{Addr: c.Address, Local: c.Local, Name: c.Name, ReverseName: c.ReverseName, Helo: c.Helo, Extended: c.Extended, Login: c.User}
}

// outcome sums up, and notes in the entry what each recipient was told.
func (d *delivery) outcome() *Outcome {
	o := &Outcome{ID: d.entry.ID, Backend: d.address, Delivered: d.final.Class() == 2}
	switch {
	case d.final.Code != 0:
		o.Reply = d.final.String()
	case d.mail.Class() != 2:
		o.Reply = d.mail.String()
	}
	for n, r := range d.recipients {
		one := RecipientOutcome{Address: r.Address}
		if n < len(d.rcpts) {
			one.Reply = d.rcpts[n].String()
			one.Delivered = o.Delivered && d.rcpts[n].Class() == 2
		}
		r.Reply = shorten(one.Reply)
		if !one.Delivered {
			o.Left++
		}
		o.Recipients = append(o.Recipients, one)
	}
	return o
}
