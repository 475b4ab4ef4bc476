// Package demo is the world around the proxy in `gatepost demo`: a stand-in mail server that keeps mail in a Maildir, a
// DNS server with a small zone, and clients that play real SMTP sessions. Everything is on loopback. The proxy itself is
// the real one and is none of this package's business.
package demo

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters/filtertest"
	"gatepost/proxy/backend/backendtest"
)

// World is the stand-ins while they run.
type World struct {
	Folder     string // holds everything; removed by Close
	ConfigFile string
	Maildir    string
	Clock      *Clock

	key     ed25519.PrivateKey // signs for friends.test
	backend *backendtest.Server
	dns     []*dns.Server
	serving sync.WaitGroup
	mails   atomic.Int64
}

// NewWorld starts the stand-ins and writes the configuration for a proxy on listen.
func NewWorld(listen string) (w *World, err error) {
	w = &World{Clock: &Clock{}}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.Folder, err = os.MkdirTemp("", "gatepost-demo-"); err != nil {
		return w, err
	}
	w.Maildir = filepath.Join(w.Folder, "Maildir")
	for _, part := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(w.Maildir, part), 0o700); err != nil {
			return w, err
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return w, err
	}
	w.key = private
	if w.backend, err = backendtest.Start(backendtest.Behaviour{
		Hostname:  "mail.example.org",
		Domains:   []string{"example.org"},
		Mailboxes: []string{"alice@example.org", "bob@example.org", "postmaster@example.org"},
		Deliver:   w.deliver,
	}); err != nil {
		return w, err
	}
	resolver, err := w.serveDNS(base64.StdEncoding.EncodeToString(public))
	if err != nil {
		return w, err
	}
	w.ConfigFile = filepath.Join(w.Folder, "gatepost.yaml")
	text := fmt.Sprintf(configuration, listen, w.backend.Address(), resolver, filepath.Join(w.Folder, "state"))
	return w, os.WriteFile(w.ConfigFile, []byte(text), 0o600)
}

// Close stops the stand-ins and removes the folder.
func (w *World) Close() error {
	var errs []error
	if w.backend != nil {
		w.backend.Close()
	}
	for _, s := range w.dns {
		errs = append(errs, s.Shutdown())
	}
	w.serving.Wait()
	if w.Folder != "" {
		errs = append(errs, os.RemoveAll(w.Folder))
	}
	return errors.Join(errs...)
}

// deliver writes a message into the Maildir: whole and synced under tmp, then moved to new.
func (w *World) deliver(m *backendtest.Message) error {
	name := fmt.Sprintf("%d.%d.demo", m.Received.Unix(), w.mails.Add(1))
	temporary := filepath.Join(w.Maildir, "tmp", name)
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, writeErr := f.Write(m.Data)
	if err := errors.Join(writeErr, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(w.Maildir, "new", name))
}

// serveDNS answers from the zone, over UDP and TCP on one free port.
func (w *World) serveDNS(publicKey string) (address string, err error) {
	zone, err := filtertest.ParseZone([]byte(fmt.Sprintf(zoneText, publicKey)))
	if err != nil {
		return "", err
	}
	packets, streams, err := bindBoth()
	if err != nil {
		return "", err
	}
	handler := dns.HandlerFunc(func(reply dns.ResponseWriter, question *dns.Msg) { reply.WriteMsg(answer(zone, question)) })
	w.dns = []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}}
	for _, s := range w.dns {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		w.serving.Go(func() { s.ActivateAndServe() })
		<-started
	}
	return packets.LocalAddr().String(), nil
}

// bindBoth finds a port that is free for UDP and for TCP. The kernel chooses the one without regard to the other.
func bindBoth() (packets net.PacketConn, streams net.Listener, err error) {
	const attempts = 20
	for range attempts {
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if streams, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, streams, nil
		}
		packets.Close()
	}
	return nil, nil, err
}

// answer looks one question up in the zone.
func answer(zone *filtertest.Zone, question *dns.Msg) *dns.Msg {
	var m dns.Msg
	m.SetReply(question)
	if len(question.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return &m
	}
	q := question.Question[0]
	records, exists := zone.Find(q.Name)
	if !exists {
		m.Rcode = dns.RcodeNameError
		return &m
	}
	for _, r := range records {
		value := r.Value
		switch {
		case dns.TypeToString[q.Qtype] != r.Type:
			continue
		case r.Type == "TXT":
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{value}})
			continue
		case r.Type == "MX":
			value = fmt.Sprintf("%d %s", r.Preference, value)
		}
		if rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN %s %s", q.Name, r.Type, value)); err == nil && rr != nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	return &m
}

// Clock is the machine's clock, moved ahead: nobody has to wait for a greylist's five minutes.
type Clock struct{ ahead atomic.Int64 }

// Now implements filters.Clock.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }
