package doctor

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"gatepost/proxy"
)

// greetingPatience is longer than filters may hold back the greeting.
const greetingPatience = 12 * time.Second

// checkPorts connects to every listener as a client on this machine would.
func (x *examiner) checkPorts(ctx context.Context, f *findings) {
	for _, l := range x.Config.Listen {
		for _, target := range x.targets(l) {
			x.checkPort(ctx, f, l, target)
		}
	}
}

// targets is where a listener can be reached from here: for every address of the machine, on loopback and on the first
// address of each family that others could use.
func (x *examiner) targets(l proxy.Listen) []netip.AddrPort {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return nil
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil
	}
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, uint16(number)) }
	if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
		return []netip.AddrPort{at(a)}
	}
	list := []netip.AddrPort{at(netip.AddrFrom4([4]byte{127, 0, 0, 1}))}
	own, err := x.machine.addresses()
	if err != nil {
		return list
	}
	for _, six := range []bool{false, true} {
		i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is6() == six && a.IsGlobalUnicast() })
		if i >= 0 && !(six && host == "0.0.0.0") {
			list = append(list, at(own[i]))
		}
	}
	return list
}

func (x *examiner) checkPort(ctx context.Context, f *findings, l proxy.Listen, target netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, greetingPatience)
	defer cancel()
	at := target.String()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		f.add(Warning, at, "nobody listens").saw("%v", err).advise("start gatepost (systemctl start gatepost)")
		return
	case err != nil:
		f.add(Error, at, "cannot be reached from this machine itself").saw("%v", err).advise("look at the firewall (nft list ruleset) and at the routes")
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if l.ImplicitTLS || slices.ContainsFunc(l.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(target.Addr().Unmap()) }) {
		f.add(OK, at, "can be reached") // there is no greeting for us
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	line = strings.TrimSpace(line)
	io.WriteString(conn, "QUIT\r\n")
	switch {
	case err != nil:
		f.add(Error, at, "connects, but gives no greeting").saw("%v", err).advise("look at gatepost's log; is it another program that listens there?")
	case strings.HasPrefix(line, "220 "+x.Config.Hostname+" "), strings.HasPrefix(line, "220-"+x.Config.Hostname+" "), line == "220 "+x.Config.Hostname:
		f.add(OK, at, "can be reached and greets").saw("%s", line)
	case strings.HasPrefix(line, "220"):
		f.add(Error, at, "another program listens there, or gatepost with another hostname").saw("%s", line).
			advise("move the mail server to its new port (`gatepost init` prints the lines), then start gatepost")
	default:
		f.add(Warning, at, "turns this machine away").saw("%s", line).advise("name 127.0.0.1 under trusted if programs here send through it")
	}
}
