package load

import (
	"bytes"
	"context"
	"net/netip"
	"time"
)

// Large sends one message of the given size, which need not fit into memory: its content is m.Content, repeated. It
// returns the exact size sent, at most a line short.
func Large(ctx context.Context, source netip.Addr, to netip.AddrPort, m Mail, size int64) (sent int64, err error) {
	c, err := Dial(ctx, source, to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.Greet(m.Helo); err != nil {
		return 0, err
	}
	for _, step := range []struct {
		line string
		code int
	}{{"MAIL FROM:<" + m.From + ">", 250}, {"RCPT TO:<" + m.To + ">", 250}, {"DATA", 354}} {
		if err := c.Command(step.line, step.code); err != nil {
			return 0, err
		}
	}
	if sent, err = c.content(m.Content, size); err != nil {
		return sent, err
	}
	if err := c.Command(".", 250); err != nil {
		return sent, err
	}
	return sent, c.Command("QUIT", 221)
}

// content writes whole lines, in pieces of 1 MiB so that the client is not what is slow.
func (c *Client) content(content []byte, size int64) (sent int64, err error) {
	piece := bytes.Repeat(content, max(1<<20/len(content), 1))
	for sent < size {
		if left := size - sent; left < int64(len(piece)) {
			piece = piece[:bytes.LastIndexByte(piece[:left], '\n')+1]
			if len(piece) == 0 {
				break
			}
		}
		c.conn.SetWriteDeadline(time.Now().Add(patience))
		n, err := c.conn.Write(piece)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
