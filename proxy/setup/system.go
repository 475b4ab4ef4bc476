package setup

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/proxy/resolver"
)

// System is the machine that is looked at.
type System struct {
	// Root is the folder that stands for /.
	Root string
	// Run runs a program of the mail server and returns what it prints.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Now is the time by which certificates are judged.
	Now func() time.Time
}

// ThisSystem is the machine itself.
func ThisSystem() System { return System{Root: "/", Run: run, Now: time.Now} }

// runTimeout bounds one program: all of them only print settings.
const runTimeout = 10 * time.Second

func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	path, err := exec.LookPath(name)
	if err != nil { // sbin is not on everybody's path
		path = filepath.Join("/usr/sbin", name)
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
	return string(out), err
}

// maxRead bounds the files that are looked at.
const maxRead = 1 << 20

// read is empty where there is no such file.
func (s System) read(path string) string {
	f, err := os.Open(s.path(path))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRead))
	if err != nil {
		return ""
	}
	return string(text)
}

func (s System) exists(path string) bool {
	_, err := os.Stat(s.path(path))
	return err == nil
}

func (s System) path(path string) string { return filepath.Join(s.Root, path) }

// firstLine of a file, without space around it.
func (s System) firstLine(path string) string {
	line, _, _ := strings.Cut(s.read(path), "\n")
	return strings.TrimSpace(line)
}

// listening is the TCP ports that somebody listens on (proc(5): state 0A).
func (s System) listening() []int {
	var ports []int
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for line := range strings.Lines(s.read(table)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != "0A" {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil && !slices.Contains(ports, int(port)) {
				ports = append(ports, int(port))
			}
		}
	}
	return ports
}

// freePort is a port for the mail server: 10025, or the next that nobody listens on. Postfix' content filters like the
// same ones.
func freePort(taken []int) int {
	port := 10025
	for slices.Contains(taken, port) {
		port++
	}
	return port
}

// nameservers are those of resolv.conf.
func (s System) nameservers() []netip.Addr {
	var list []netip.Addr
	lines := bufio.NewScanner(bytes.NewBufferString(s.read("/etc/resolv.conf")))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "nameserver" {
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// publicOnly is the name of a public resolver if there are no others.
func publicOnly(servers []netip.Addr) string {
	name := ""
	for _, a := range servers {
		if name = resolver.PublicName(a); name == "" {
			return ""
		}
	}
	return name
}
