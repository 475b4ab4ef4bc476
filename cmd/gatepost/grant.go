package main

import (
	"debug/elf"
	"fmt"
	"net"
	"os"
	"path/filepath"

	filtermilter "gatepost/filters/milter"
	"gatepost/proxy/config"
	"gatepost/proxy/confine"
	"gatepost/proxy/journal"
	"gatepost/proxy/sockets"
)

// systemFolders is what every process reads that resolves names, checks certificates and tells the time, and the
// prometheus client, which reads /proc/self. /etc is there as a whole: resolv.conf and hosts are replaced while we
// run, and the modes of files in it hold as ever.
var systemFolders = []string{"/etc", "/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/usr/share/zoneinfo",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/ssl", "/var/lib/ca-certificates", "/dev/urandom"}

// claim is what a key of the configuration needs; without a key it is what every process needs.
type claim struct {
	key string
	confine.Grant
}

// grant is what a configuration needs.
func grant(file string, c *config.Config) confine.Grant {
	g := confine.Grant{Ports: []uint16{}}
	for _, claim := range claims(file, c) {
		g.Add(&claim.Grant)
	}
	return g
}

// claims is what a configuration needs, key by key.
func claims(file string, c *config.Config) (list []claim) {
	key := func(key string) *confine.Grant {
		list = append(list, claim{key, confine.Grant{Ports: []uint16{}}})
		return &list[len(list)-1].Grant
	}
	g := key("")
	for _, folder := range systemFolders {
		g.ReadFolder(folder)
	}
	g.ReadFile(file)
	if folder := os.Getenv("CREDENTIALS_DIRECTORY"); folder != "" {
		g.ReadFolder(folder)
	}
	if ownBinary != "" { // without /proc nobody knows
		g.ExecuteFolder(filepath.Dir(ownBinary))
	}
	if isDynamic(ownBinary) {
		for _, folder := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"} {
			g.ExecuteFolder(folder)
		}
	}
	for _, name := range c.SecretFiles() {
		g.ReadFile(name)
	}
	key("lists").ReadFolder(c.Lists)
	key("backend.ca").ReadFile(c.Backend.CA)
	key("admin.certificate").ReadFile(c.Admin.Certificate)
	key("admin.key").ReadFile(c.Admin.Key)
	for i, l := range c.Listen {
		key(fmt.Sprintf("listen[%d].certificate", i)).ReadFile(l.Certificate)
		key(fmt.Sprintf("listen[%d].key", i)).ReadFile(l.Key)
	}
	key("store.path").WriteFolder(c.Store.Path)
	if c.Journal.Path != journal.Off {
		key("journal.path").WriteFolder(c.Journal.Path)
	}
	key("quarantine.path").WriteFolder(c.Quarantine.Path)
	for i, l := range c.Milter {
		grantSocket(key(fmt.Sprintf("milter[%d].address", i)), l.Common().Socket(sockets.Milter))
	}
	for i, l := range c.PolicyServer {
		grantSocket(key(fmt.Sprintf("policy_server[%d].address", i)), l.Common().Socket(sockets.PolicyServer))
	}
	claimPorts(key, c)
	return list
}

func grantSocket(g *confine.Grant, w sockets.Want) {
	if w.Network == "unix" {
		g.WriteFolder(filepath.Dir(w.Address))
	}
}

// claimPorts names whom the proxy calls by TCP.
func claimPorts(key func(string) *confine.Grant, c *config.Config) {
	grantAddresses(key("backend.address"), c.Backend.Address)
	grantAddresses(key("backend.submission"), c.Backend.Submission)
	key("resolver").Port(53) // for answers that are too large for UDP
	grantAddresses(key("resolver.servers"), c.Resolver.Servers)
	for name, f := range c.Filters {
		if settings, ok := f.Settings.(*filtermilter.Config); ok && f.Common.Enabled {
			grantAddresses(key("filters."+name+".address"), []string{settings.Address.Address})
		}
	}
	r, shared := c.Store.Redis, key("store.redis")
	for _, name := range r.Files() {
		shared.ReadFile(*name)
	}
	grantAddresses(shared, r.Addresses)
	if r.Cluster || r.Sentinel != "" { // nodes are found at run time, on whatever ports
		shared.Ports = nil
	}
}

func grantAddresses(g *confine.Grant, addresses []string) {
	for _, address := range addresses {
		_, name, err := net.SplitHostPort(address)
		if err != nil { // a UNIX socket, or a DNS server without a port
			continue
		}
		if port, err := net.LookupPort("tcp", name); err == nil {
			g.Port(uint16(port))
		}
	}
}

// existing leaves out folders that are not there: nobody can be granted them, and nothing is missing without.
func existing(g *confine.Grant) *confine.Grant {
	there := confine.Grant{Execute: g.Execute, Write: g.Write, Ports: g.Ports}
	for _, path := range g.Read {
		if _, err := os.Stat(path); err == nil {
			there.Read = append(there.Read, path)
		}
	}
	return &there
}

// isDynamic tells whether a program needs the system's libraries to start.
func isDynamic(program string) bool {
	f, err := elf.Open(program)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}
