package backend

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend/backendtest"
)

// With the capability the backend sees the client's address, without it the operator is told what is missing.
func TestTransparent(t *testing.T) {
	s := start(t, backendtest.Behaviour{XClient: backendtest.XClientNever})
	g, _ := newGroup(t, func(c *Config) { c.ClientAddress = Transparent }, s)
	client := testClient()
	client.Addr = netip.MustParseAddrPort("127.0.0.9:40001")
	c, err := g.Dial(testContext(t), client)
	if errors.Is(err, os.ErrPermission) {
		wantError(t, err, "CAP_NET_RAW")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	transact(t, c, message("x\r\n"))
	c.Close()
	if m := onlyMessage(t, s); m.Client.Addr() != client.Addr.Addr() || m.Helo != client.Helo {
		t.Errorf("backend saw %v %q", m.Client, m.Helo)
	}
}

// A client comes from an address of its own family only. That the backend has none of that family is nobody's failure:
// one IPv6 client must not put an IPv4 backend out of order for everybody.
func TestTransparentNeedsTheClientsFamily(t *testing.T) {
	s := start(t, backendtest.Behaviour{XClient: backendtest.XClientNever})
	g, logs := newGroup(t, func(c *Config) { c.ClientAddress = Transparent }, s)
	client := testClient()
	client.Addr = netip.MustParseAddrPort("[2001:db8::7]:40001")
	_, err := g.Dial(testContext(t), client)
	wantError(t, err, "of the client's family")
	if g.servers[0].down() || logs.String() != "" {
		t.Errorf("it was blamed: %s", logs)
	}
}

// With the address of some clients no connection can be made: the backend itself, or a program of this machine. The prober
// finds out whether it is the backend.
func TestTransparentClientWhoCannotBeAnswered(t *testing.T) {
	s := start(t, backendtest.Behaviour{XClient: backendtest.XClientNever})
	g, logs := newGroup(t, func(c *Config) {
		c.ClientAddress, c.ConnectTimeout = Transparent, filters.Duration(100*time.Millisecond)
	}, s)
	client := testClient()
	client.Addr = netip.MustParseAddrPort("192.0.2.77:40001") // not to be had on loopback
	_, err := g.Dial(testContext(t), client)
	if errors.Is(err, os.ErrPermission) {
		wantError(t, err, "CAP_NET_RAW")
		return
	}
	wantError(t, err, "must lead back")
	if g.servers[0].down() || logs.String() != "" {
		t.Errorf("it was blamed: %s", logs)
	}
	if len(g.servers[0].wake) != 1 {
		t.Error("nobody looks")
	}
}
