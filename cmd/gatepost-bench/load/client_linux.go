package load

import (
	"bufio"
	"context"
	"crypto/tls"
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

// Dial connects from source. The greeting comes next.
func Dial(ctx context.Context, source netip.Addr, to netip.AddrPort) (*Client, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0)), Control: lateBind, KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, r: bufio.NewReaderSize(conn, maxReplyLine)}, nil
}

// Greet reads the greeting and says EHLO.
func (c *Client) Greet(helo string) error {
	if err := c.Expect("the connection", 220); err != nil {
		return err
	}
	return c.Command("EHLO "+helo, 250)
}

// StartTLS goes on under TLS, with whatever certificate the server has, and says EHLO again.
func (c *Client) StartTLS(helo string) error {
	if err := c.Command("STARTTLS", 220); err != nil {
		return err
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	secured := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.conn = secured
	c.r.Reset(secured)
	return c.Command("EHLO "+helo, 250)
}

// Send sends a line whose reply is not awaited.
func (c *Client) Send(line string) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write([]byte(line + "\r\n"))
	return err
}

// Close hangs up.
func (c *Client) Close() error { return c.conn.Close() }

// Command sends a line and awaits the reply.
func (c *Client) Command(line string, code int) error {
	if err := c.Send(line); err != nil {
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
