package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// patience is how long a client waits for a reply, where nothing else is measured.
const patience = 60 * time.Second

// Client is a plain SMTP client that waits for each reply: for what needs no speed.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
}

// Dial connects from source and reads the greeting.
func Dial(ctx context.Context, source netip.Addr, to netip.AddrPort) (*Client, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0)), Control: lateBind, KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, maxReplyLine)}
	if err := c.Expect("the connection", 220); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close hangs up.
func (c *Client) Close() error { return c.conn.Close() }

// Command sends a line and awaits the reply.
func (c *Client) Command(line string, code int) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		return err
	}
	verb, _, _ := strings.Cut(line, " ")
	return c.Expect(verb, code)
}

// Expect awaits the reply to what.
func (c *Client) Expect(what string, code int) error {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		got, last, ok := parseLine(line)
		if !ok || got != code {
			return fmt.Errorf("%s: %q", what, line)
		}
		if last {
			return nil
		}
	}
}
