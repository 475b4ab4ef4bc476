//go:build mta

package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mtaSyslog is the file with what servers send to syslog.
const mtaSyslog = "/var/log/syslog"

func mtaRoot(t *testing.T) string {
	t.Helper()
	root := os.Getenv("GATEPOST_MTA_ROOT")
	if root == "" {
		t.Fatal("GATEPOST_MTA_ROOT is not set: run make test-mta")
	}
	return root
}

// prepareRoot does what the packages' installation would have done for all of them: users, and a place to log.
func prepareRoot(t *testing.T) {
	t.Helper()
	root := mtaRoot(t)
	passwd := "root:x:0:0::/root:/bin/sh\nmail:x:8:8::/var/mail:/bin/false\nnobody:x:65534:65534::/:/bin/false\n" +
		"vmail:x:1000:1000::/var/vmail:/bin/sh\nalice:x:1000:1000::/var/vmail:/bin/sh\n"
	group := "root:x:0:\nmail:x:8:\nnogroup:x:65534:\nvmail:x:1000:\n"
	for _, m := range mtas {
		for _, user := range m.users {
			name, id, _ := strings.Cut(user, ":")
			passwd += name + ":x:" + id + ":" + id + "::/nonexistent:/bin/false\n"
			group += name + ":x:" + id + ":\n"
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), passwd)
	write(t, filepath.Join(root, "etc/group"), group)
	write(t, filepath.Join(root, "etc/hosts"), "127.0.0.1 localhost\n")
	write(t, filepath.Join(root, "etc/resolv.conf"), "")
	write(t, filepath.Join(root, "etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")
	keepSyslog(t, root)
}

// chown gives a path to a user of the root, whose group has the same id.
func chown(t *testing.T, path, user string) {
	t.Helper()
	passwd, err := os.ReadFile(filepath.Join(mtaRoot(t), "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(passwd)) {
		if fields := strings.Split(line, ":"); fields[0] == user {
			id, err := strconv.Atoi(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Lchown(path, id, id); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the root has no user %s", user)
}

// keepSyslog writes what arrives at /dev/log into a file.
func keepSyslog(t *testing.T, root string) {
	t.Helper()
	socket := filepath.Join(root, "dev/log")
	os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(root, mtaSyslog))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer file.Close()
		line := make([]byte, 64<<10)
		for {
			n, err := conn.Read(line)
			if err != nil {
				return
			}
			file.Write(append(line[:n:n], '\n'))
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
}
