//go:build mta

package main

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
)

// Clients of both families come to a server with an address of each, as themselves, and none makes it out of order for
// the others: not even one on the machine itself, whose address leads nowhere.
func TestMTATransparentFamilies(t *testing.T) {
	s := &site{mta: &mta{name: "scripted"}, way: backend.Transparent, root: mtaRoot(t)}
	s.front, s.back = newNetworks(t)
	s.public = s.front.freePort(t)
	v4, v6 := s.script(t, s.back.host), s.script(t, hostV6)
	s.address, s.addressV6 = v4.Address(), v6.Address()
	s.startGatepost(t)

	for client, server := range map[string]*backendtest.Server{"2001:db8:7::7": v6, stranger: v4} {
		c := s.dialAs(t, netip.MustParseAddr(client))
		c.transaction("alice@example.org", "")
		c.message(header+"\r\nx\r\n", "250")
		if m := server.Messages(); len(m) != 1 || m[0].Client.Addr().String() != client {
			t.Errorf("of %s the server has %v", client, m)
		}
	}
	c := s.dialAs(t, netip.MustParseAddr("127.0.0.1"))
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<bob@example.net>", "451")
	s.dial(t).transaction("alice@example.org", "")

	log, err := os.ReadFile(s.log)
	if err != nil || strings.Contains(string(log), "out of order") {
		t.Errorf("%v\n%s", err, log)
	}
}

// script runs a scripted mail server in the back.
func (s *site) script(t *testing.T, host string) *backendtest.Server {
	t.Helper()
	var l net.Listener
	var err error
	s.back.do(func() { l, err = net.Listen("tcp", net.JoinHostPort(host, "0")) })
	if err != nil {
		t.Fatal(err)
	}
	server := backendtest.Serve(l, backendtest.Behaviour{XClient: backendtest.XClientNever, Mailboxes: []string{"alice@example.org"}})
	t.Cleanup(server.Close)
	return server
}

// dialAs connects to Gatepost as a client with the given address.
func (s *site) dialAs(t *testing.T, client netip.Addr) *mtaClient {
	t.Helper()
	conn, err := s.front.dial(s.public)
	if err != nil {
		t.Fatal(err)
	}
	if client.Is4() {
		return newMTAClient(t, conn, "PROXY TCP4 "+client.String()+" 203.0.113.1 40000 25\r\n")
	}
	return newMTAClient(t, conn, "PROXY TCP6 "+client.String()+" 2001:db8:1::1 40000 25\r\n")
}
