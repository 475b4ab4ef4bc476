package backend

import (
	"errors"
	"net/netip"
	"os"
	"testing"

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
