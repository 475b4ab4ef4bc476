package backend

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// appendProxyV1 writes the header of the PROXY protocol, version 1 (proxy-protocol.txt, 2.1).
func appendProxyV1(dst []byte, client, local netip.AddrPort) []byte {
	client, local = sameFamily(client, local)
	family := "PROXY TCP6 "
	if client.Addr().Is4() {
		family = "PROXY TCP4 "
	}
	dst = append(dst, family...)
	dst = client.Addr().AppendTo(dst)
	dst = append(dst, ' ')
	dst = local.Addr().AppendTo(dst)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(client.Port()), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(local.Port()), 10)
	return append(dst, '\r', '\n')
}

const (
	proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV2Proxy     = 0x21 // version 2, command PROXY
	proxyV2TCP4      = 0x11
	proxyV2TCP6      = 0x21
)

// appendProxyV2 writes the header of the PROXY protocol, version 2 (proxy-protocol.txt, 2.2).
func appendProxyV2(dst []byte, client, local netip.AddrPort) []byte {
	client, local = sameFamily(client, local)
	dst = append(dst, proxyV2Signature...)
	if client.Addr().Is4() {
		dst = append(dst, proxyV2Proxy, proxyV2TCP4, 0, 4+4+2+2)
	} else {
		dst = append(dst, proxyV2Proxy, proxyV2TCP6, 0, 16+16+2+2)
	}
	dst = append(dst, client.Addr().AsSlice()...)
	dst = append(dst, local.Addr().AsSlice()...)
	dst = binary.BigEndian.AppendUint16(dst, client.Port())
	return binary.BigEndian.AppendUint16(dst, local.Port())
}

// sameFamily makes both addresses of the client's family, since the header has room for one only. The client's is never
// changed: as an IPv4-mapped one it would not match the backend's access lists.
func sameFamily(client, local netip.AddrPort) (c, l netip.AddrPort) {
	from, to := client.Addr().Unmap().WithZone(""), local.Addr().Unmap().WithZone("")
	switch {
	case from.Is4() && !to.Is4():
		to = netip.IPv4Unspecified()
	case !from.Is4() && !to.IsValid():
		to = netip.IPv6Unspecified()
	case !from.Is4() && to.Is4():
		to = netip.AddrFrom16(to.As16())
	}
	return netip.AddrPortFrom(from, client.Port()), netip.AddrPortFrom(to, local.Port())
}
