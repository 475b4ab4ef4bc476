package main

import (
	"debug/elf"
	"net"
	"os"
	"path/filepath"

	filtermilter "gatepost/filters/milter"
	"gatepost/proxy/config"
	"gatepost/proxy/confine"
	"gatepost/proxy/journal"
)

// systemFolders is what every process reads that resolves names, checks certificates and tells the time, and the
// prometheus client, which reads /proc/self. /etc is there as a whole: resolv.conf and hosts are replaced while we
// run, and the modes of files in it hold as ever.
var systemFolders = []string{"/etc", "/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/usr/share/zoneinfo",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/ssl", "/var/lib/ca-certificates", "/dev/urandom"}

// grant is what a configuration needs.
func grant(file string, c *config.Config) confine.Grant {
	g := confine.Grant{Ports: []uint16{}}
	for _, folder := range systemFolders {
		g.ReadFolder(folder)
	}
	g.ReadFile(file)
	g.ReadFolder(c.Lists)
	if folder := os.Getenv("CREDENTIALS_DIRECTORY"); folder != "" {
		g.ReadFolder(folder)
	}
	for _, name := range files(c) {
		g.ReadFile(name)
	}
	if ownBinary != "" { // without /proc nobody knows
		g.ExecuteFolder(filepath.Dir(ownBinary))
	}
	if isDynamic(ownBinary) {
		for _, folder := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"} {
			g.ExecuteFolder(folder)
		}
	}
	g.WriteFolder(c.Store.Path)
	if c.Journal.Path != journal.Off {
		g.WriteFolder(c.Journal.Path)
	}
	g.WriteFolder(c.Quarantine.Path)
	for _, w := range wanted(c) {
		if w.Network == "unix" {
			g.WriteFolder(filepath.Dir(w.Address))
		}
	}
	grantPorts(&g, c)
	return g
}

// files are those that a configuration names one by one.
func files(c *config.Config) []string {
	list := []string{c.Backend.CA, c.Admin.Certificate, c.Admin.Key}
	for _, l := range c.Listen {
		list = append(list, l.Certificate, l.Key)
	}
	for _, name := range c.Store.Redis.Files() {
		list = append(list, *name)
	}
	return append(list, c.SecretFiles()...)
}

// grantPorts names whom the proxy calls by TCP.
func grantPorts(g *confine.Grant, c *config.Config) {
	r := c.Store.Redis
	if r.Cluster || r.Sentinel != "" { // nodes are found at run time, on whatever ports
		g.Ports = nil
		return
	}
	grantAddresses(g, c.Backend.Address)
	grantAddresses(g, c.Backend.Submission)
	grantAddresses(g, r.Addresses)
	g.Port(53) // of the resolver, for answers that are too large for UDP
	grantAddresses(g, c.Resolver.Servers)
	for _, f := range c.Filters {
		if settings, ok := f.Settings.(*filtermilter.Config); ok && f.Common.Enabled {
			grantAddresses(g, []string{settings.Address.Address})
		}
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
