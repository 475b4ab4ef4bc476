//go:build mta

package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A mailServer is a real MTA, started in the folder that .ci/mta-root unpacked.
type mailServer struct {
	name    string
	root    string
	xclient string // address that takes XCLIENT, or empty
	proxy   string // address that wants a PROXY header
	folder  string // where alice's mail arrives, a Maildir
	log     string
	names   bool // it shows the client's name that we hand over
	process *exec.Cmd
}

func mtaRoot(t *testing.T) string {
	t.Helper()
	root := os.Getenv("GATEPOST_MTA_ROOT")
	if root == "" {
		t.Fatal("GATEPOST_MTA_ROOT is not set: run make test-mta")
	}
	return root
}

// freePort asks the kernel for a port that nobody uses.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a command inside the root until the test ends.
func (m *mailServer) start(t *testing.T, command ...string) {
	t.Helper()
	m.process = exec.Command(command[0], command[1:]...)
	m.process.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Setpgid: true}
	m.process.Dir = "/"
	m.process.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	output, err := os.Create(filepath.Join(t.TempDir(), m.name+".out"))
	if err != nil {
		t.Fatal(err)
	}
	m.process.Stdout, m.process.Stderr = output, output
	if err := m.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			m.showLog(t)
		}
	})
	for _, address := range []string{m.xclient, m.proxy} {
		if address != "" {
			m.awaitListener(t, address)
		}
	}
}

// kill ends the server with all its processes at once. It may be called twice.
func (m *mailServer) kill() {
	if m.process != nil {
		syscall.Kill(-m.process.Process.Pid, syscall.SIGKILL)
		m.process.Wait()
		m.process = nil
	}
}

func (m *mailServer) awaitListener(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.showLog(t)
	t.Fatalf("%s does not listen on %s", m.name, address)
}

func (m *mailServer) showLog(t *testing.T) {
	if content, err := os.ReadFile(filepath.Join(m.root, m.log)); err == nil {
		t.Logf("%s's log:\n%s", m.name, tail(string(content), 60))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// message waits for one new message in alice's folder, returns and removes it.
func (m *mailServer) message(t *testing.T) []byte {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		for _, path := range m.messages(t) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return content
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s delivered nothing", m.name)
	return nil
}

func (m *mailServer) messages(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(filepath.Join(m.root, m.folder), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Base(filepath.Dir(path)) == "new" {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// startPostfix runs Postfix with two listeners.
func startPostfix(t *testing.T) *mailServer {
	t.Helper()
	m := &mailServer{name: "Postfix", root: mtaRoot(t), xclient: freePort(t), proxy: freePort(t), folder: "var/vmail/postfix", log: "var/log/mail.log"}
	configuration := filepath.Join(m.root, "etc/postfix")
	write(t, filepath.Join(configuration, "main.cf"), `compatibility_level = 3.6
myhostname = mx.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = /var/vmail/postfix
virtual_mailbox_maps = texthash:/etc/postfix/vmailbox
virtual_uid_maps = static:1000
virtual_gid_maps = static:1000
virtual_minimum_uid = 100
smtputf8_enable = yes
message_size_limit = 52428800
virtual_mailbox_limit = 0
mailbox_size_limit = 0
maillog_file = /var/log/mail.log
maillog_file_prefixes = /var
`)
	write(t, filepath.Join(configuration, "vmailbox"), "alice@example.org alice/\nälice@example.org alice/\n")
	dist, err := os.ReadFile(filepath.Join(m.root, "usr/share/postfix/master.cf.dist"))
	if err != nil {
		t.Fatal(err)
	}
	var services bytes.Buffer
	for line := range strings.Lines(string(dist)) {
		if strings.HasPrefix(line, "smtp      inet") {
			continue
		}
		if fields := strings.Fields(line); len(fields) >= 8 && !strings.ContainsAny(line[:1], "# \t") {
			fields[4] = "n" // no second chroot
			line = strings.Join(fields, " ") + "\n"
		}
		services.WriteString(line)
	}
	fmt.Fprintf(&services, "%s inet n - n - - smtpd\n  -o smtpd_authorized_xclient_hosts=static:all\n  -o smtpd_forbid_unauth_pipelining=yes\n  -o smtpd_client_connection_count_limit=0\n", m.xclient)
	fmt.Fprintf(&services, "%s inet n - n - - smtpd\n  -o smtpd_upstream_proxy_protocol=haproxy\n  -o smtpd_forbid_unauth_pipelining=yes\n  -o smtpd_client_connection_count_limit=0\n", m.proxy)
	write(t, filepath.Join(configuration, "master.cf"), services.String())
	box := filepath.Join(m.root, m.folder)
	os.RemoveAll(box)
	if err := os.MkdirAll(box, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(box, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(m.root, m.log))
	os.Remove(filepath.Join(m.root, "var/lib/postfix/master.lock"))
	check := exec.Command("/usr/sbin/postfix", "check")
	check.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	check.Dir = "/"
	check.Stdout, check.Stderr = io.Discard, io.Discard // ownership of files that nobody uses here
	if err := check.Run(); err != nil {
		t.Logf("postfix check: %v", err)
	}
	m.start(t, "/usr/lib/postfix/sbin/master", "-d", "-c", "/etc/postfix")
	return m
}

// startExim runs Exim with one listener that wants a PROXY header.
func startExim(t *testing.T) *mailServer {
	t.Helper()
	m := &mailServer{name: "Exim", root: mtaRoot(t), proxy: freePort(t), folder: "var/vmail/exim", log: "var/log/exim4/mainlog"}
	_, port, _ := net.SplitHostPort(m.proxy)
	write(t, filepath.Join(m.root, "etc/exim4/exim4.conf"), `primary_hostname = mx.example.org
local_interfaces = 127.0.0.1.`+port+`
hosts_proxy = 127.0.0.1
exim_user = Debian-exim
exim_group = Debian-exim
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 50M
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
tls_advertise_hosts =
smtp_accept_max = 100
log_file_path = /var/log/exim4/%slog
acl_smtp_rcpt = acl_rcpt

begin acl
acl_rcpt:
  deny    domains = example.org
          !local_parts = alice : postmaster : älice
          message = no such person at example.org
  accept  domains = example.org
  deny    message = relay not permitted

begin routers
mailboxes:
  driver = accept
  domains = example.org
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = /var/vmail/exim/box
  maildir_format
  create_directory
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = true
  user = vmail
  group = vmail
`)
	box := filepath.Join(m.root, m.folder)
	os.RemoveAll(box)
	if err := os.MkdirAll(box, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(box, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(m.root, m.log))
	m.start(t, "/usr/sbin/exim4", "-bdf", "-q30m")
	return m
}
