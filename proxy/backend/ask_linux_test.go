package backend

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// A question that is asked with the wait already prepared is answered, fails and times out like any other.
func TestAsk(t *testing.T) {
	short, long := []byte("NOOP\r\n"), bytes.Repeat([]byte("x"), 16<<20)
	for _, test := range []struct {
		name     string
		question []byte
		answer   string
		pause    time.Duration // before the answer
		want     error
	}{
		{"at once", short, "250 ok\r\n", 0, nil},
		{"later", short, "250 ok\r\n", 20 * time.Millisecond, nil},
		{"more than the socket takes", long, "250 ok\r\n", 0, nil},
		{"hung up", short, "", 0, io.EOF},
		{"silent", short, "250 too late\r\n", time.Second, os.ErrDeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				io.ReadFull(c, make([]byte, len(test.question)))
				time.Sleep(test.pause)
				io.WriteString(c, test.answer)
			}()
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			k := newLink(nc)
			defer k.close()
			if !k.alive() || k.quiet.IsZero() {
				t.Fatal("not known to be quiet")
			}
			limit := 10 * time.Second
			if errors.Is(test.want, os.ErrDeadlineExceeded) {
				limit = 30 * time.Millisecond
			}
			k.nc.SetDeadline(time.Now().Add(limit))
			if err := k.ask(test.question); err != nil {
				t.Fatal(err)
			}
			if r, err := k.readReply(); !errors.Is(err, test.want) || err == nil && r.Code != 250 {
				t.Errorf("%v, %v; want %v", r, err, test.want)
			}
			k.close()
			<-served
		})
	}
}
