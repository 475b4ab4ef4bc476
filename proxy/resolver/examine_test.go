package resolver

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
)

func TestExamine(t *testing.T) {
	good := serve(t, func(_ string, q *dns.Msg) *dns.Msg {
		reply := new(dns.Msg).SetReply(q)
		reply.RecursionAvailable, reply.AuthenticatedData = true, q.AuthenticatedData
		return reply
	})
	plain := serve(t, func(network string, q *dns.Msg) *dns.Msg {
		if network == "tcp" {
			return nil
		}
		return new(dns.Msg).SetReply(q)
	})
	refusing := serve(t, func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) })
	silent := listenUDP(t)
	defer silent.Close()

	c := Defaults()
	c.Timeout = filters.Duration(500 * time.Millisecond)
	c.Servers = []string{good.address, plain.address, refusing.address, silent.LocalAddr().String()}
	found, err := Examine(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if x := found[0]; x.Server.String() != good.address || x.Err != nil || !x.Recurses || !x.Validates || x.TCP != nil || x.Took <= 0 {
		t.Errorf("good: %+v", x)
	}
	if x := found[1]; x.Err != nil || x.Recurses || x.Validates || x.TCP == nil {
		t.Errorf("plain: %+v", x)
	}
	if x := found[2]; x.Err == nil || !strings.Contains(x.Err.Error(), "REFUSED") {
		t.Errorf("refusing: %+v", x)
	}
	if x := found[3]; x.Err == nil || !isTimeout(x.Err) {
		t.Errorf("silent: %+v", x)
	}
}
