package faulttest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
)

// childVariable makes TestMain's process the one that runs out of descriptors.
const childVariable = "GATEPOST_FAULT_CHILD"

// TestChild is not a test of its own: it is what TestDescriptorsUsedUp runs in a process with few descriptors.
func TestChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		return
	}
	s := newSite(t, filters.SystemClock{})
	h := s.open(t, setup{})
	h.ledger.foreign = true
	h.wantSend(t, "before", "a", text, "250 ") // all files that are opened late are open now
	limit := syscall.Rlimit{Cur: uint64(openFiles() + 40), Max: 20000}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("address %s\n", h.address)
	io.Copy(io.Discard, os.Stdin) // until the parent has done
	limit.Cur = 1024
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("accept errors %d\n", h.server.Metrics().AcceptErrors.Load())
	h.done(t)
}

// TestDescriptorsUsedUp: with none left the proxy defers, goes on accepting when it can, and serves as before.
func TestDescriptorsUsedUp(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	child.Env = append(os.Environ(), childVariable+"=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	address := ""
	for address == "" && lines.Scan() {
		_, address, _ = strings.Cut(lines.Text(), "address ")
	}
	h := &house{t: t, address: address, work: clientPatience}
	var held []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	// The last of those that were accepted find no descriptor for a backend; the others wait in the queue.
	greeted, deferred := 0, 0
	for n, c := range held {
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		talk := &talk{Conn: c, r: bufio.NewReader(c), ledger: &h.ledger, name: fmt.Sprint("held", n)}
		if talk.greeted(); talk.err != nil {
			break
		}
		greeted++
		c.SetDeadline(time.Now().Add(5 * time.Second))
		talk.ehlo()
		s := talk.letter("a", "x", text, known)
		if talk.envelope(s); s.mail == 451 || s.rcpts[0] == 451 {
			deferred++
		}
		if talk.err != nil {
			t.Errorf("session %d of those held: %v", n, talk.err)
		}
	}
	if greeted == 0 || greeted == len(held) {
		t.Errorf("%d of %d connections were greeted", greeted, len(held))
	}
	for _, c := range held {
		c.Close()
	}
	c := h.connect("after")
	c.hello()
	s := c.letter("a", "x", text, known)
	c.envelope(s)
	c.send("QUIT\r\n")
	c.bye()
	c.end()
	if s.rcpts[0] != 250 {
		t.Errorf("afterwards: %s, %q, %v", s.summary(), c.last, c.err)
	}
	in.Close()
	errors := ""
	var rest []string
	for lines.Scan() {
		if rest = append(rest, lines.Text()); strings.HasPrefix(lines.Text(), "accept errors ") {
			errors = strings.TrimPrefix(lines.Text(), "accept errors ")
		}
	}
	if err := child.Wait(); err != nil {
		t.Errorf("child: %v\n%s", err, strings.Join(rest, "\n"))
	}
	if errors == "" || errors == "0" {
		t.Errorf("accept errors %q: the descriptors were not used up", errors)
	}
	t.Logf("greeted %d, of which %d were deferred for want of a backend; accept errors %s", greeted, deferred, errors)
}
