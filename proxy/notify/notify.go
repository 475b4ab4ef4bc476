// Package notify tells the service manager how the process is (sd_notify(3)): a datagram of lines to the UNIX socket that
// NOTIFY_SOCKET names. coreos/go-systemd does no more than that, and opens a socket for each message.
package notify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is who wants to know. A nil Manager is nobody. It is safe for concurrent use.
type Manager struct{ conn *net.UnixConn }

// FromEnvironment returns the manager that has started the process, nil if none did that wants to know.
func FromEnvironment() (*Manager, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return nil, fmt.Errorf("NOTIFY_SOCKET=%q is no UNIX socket: systemd is not told anything", name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"}) // a name with @ is abstract
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return &Manager{conn}, nil
}

// writeTimeout bounds what is waited for a manager that does not read.
const writeTimeout = time.Second

// Tell sends assignments such as "READY=1". The manager does not answer; that it is not there is no reason to do anything
// else.
func (m *Manager) Tell(assignments ...string) {
	if m == nil {
		return
	}
	_ = m.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = m.conn.Write([]byte(strings.Join(assignments, "\n")))
}

// What is told.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
)

// Status is one line for `systemctl status`.
func Status(text string) string {
	return "STATUS=" + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// MainPID names the process that is the service from now on.
func MainPID(pid int) string { return "MAINPID=" + strconv.Itoa(pid) }

// Reloading begins a reload, which ends with Ready. The manager takes no other's clock.
func Reloading() string {
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(monotonic().Microseconds(), 10)
}

// WatchdogInterval is how long the manager waits for [Alive] before it takes the process for hung; zero: it does not.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	microseconds, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || microseconds <= 0 || microseconds > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(microseconds) * time.Microsecond
}

// Close ends it.
func (m *Manager) Close() {
	if m != nil {
		m.conn.Close()
	}
}
