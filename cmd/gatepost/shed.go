package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"gatepost/filters/all"
	"gatepost/proxy/backend"
	"gatepost/proxy/config"
	"gatepost/proxy/confine"
	"gatepost/proxy/journal"
	"gatepost/proxy/sockets"
)

// shed gives up, for good, what this process does not need any more. Sockets and folders that only root can have come
// first; all that is read or opened afterwards, root's files included, is read as the user: what would fail at a
// reload fails at the start.
func (s *service) shed(ctx context.Context) error {
	u, err := s.user()
	if err = errors.Join(err, s.config.Unserved()); err != nil {
		return err
	}
	staysRoot := u == nil && os.Geteuid() == 0
	if !staysRoot {
		if err := bindLow(ctx, s.config, s.given); err != nil {
			return bindAdvice(err)
		}
	}
	if err := ownFolders(u, s.config); err != nil {
		return err
	}
	was := os.Geteuid()
	if err := confine.Become(u, needed(s.config)...); err != nil {
		return err
	}
	if err := confine.NoDumps(); err != nil {
		s.log.Warn("core dumps cannot be forbidden", "error", err)
	}
	switch {
	case staysRoot && s.config.User == "":
		s.log.Warn("gatepost runs as root: whoever breaks into it owns the machine. Name a user in the configuration (user: gatepost), or start it as one")
	case was == 0 && u != nil:
		c, problems := config.Load(s.file, all.Specs())
		if c == nil {
			return fmt.Errorf("as user %s: %w", u.Name, allProblems(s.file, problems))
		}
		s.config = c
		s.log.Info("gatepost is not root any more", "user", u.Name, "uid", u.UID, "gid", u.GID, "groups", u.Groups)
	}
	return s.confine()
}

// user is who this process is to be; nil: who it is.
func (s *service) user() (*confine.User, error) {
	if s.config.User == "" {
		return nil, nil
	}
	u, err := confine.Lookup(s.config.User, s.config.Group)
	if err != nil || u.UID == 0 {
		return nil, err
	}
	return u, nil
}

// needed are the capabilities that a process needs that is not root.
func needed(c *config.Config) []confine.Capability {
	if c.Backend.ClientAddress == backend.Transparent {
		return []confine.Capability{confine.Transparent}
	}
	return nil
}

// bindLow opens the sockets that cannot be had later. That the admin address is not to be had is no reason to take no mail.
func bindLow(ctx context.Context, c *config.Config, given *sockets.Set) error {
	for _, w := range wanted(c) {
		if _, port, err := net.SplitHostPort(w.Address); err != nil || !isLow(port) {
			continue
		}
		if err := given.Ahead(ctx, w); err != nil && w.Use != sockets.Admin {
			return fmt.Errorf("listen on %s: %w", w.Name, err)
		}
	}
	return nil
}

// wanted are all sockets that a configuration names.
func wanted(c *config.Config) (list []sockets.Want) {
	for _, l := range c.Listen {
		list = append(list, l.Socket())
	}
	for _, l := range c.Milter {
		list = append(list, l.Common().Socket(sockets.Milter))
	}
	for _, l := range c.PolicyServer {
		list = append(list, l.Common().Socket(sockets.PolicyServer))
	}
	if c.Admin.Enabled() {
		list = append(list, c.Admin.Socket())
	}
	return list
}

func isLow(port string) bool {
	n, err := net.LookupPort("tcp", port)
	return err == nil && n != 0 && n < 1024
}

// ownFolders makes the folders of state, journal and quarantine, and looks whether they are the user's.
func ownFolders(u *confine.User, c *config.Config) error {
	folders := []struct {
		path string
		mode os.FileMode
	}{{c.Store.Path, 0o700}, {c.Journal.Path, 0o750}, {c.Quarantine.Path, 0o700}}
	for _, f := range folders {
		var err error
		switch {
		case f.path == journal.Off:
		case u != nil && os.Geteuid() == 0:
			err = u.Own(f.path, f.mode)
		default:
			err = os.MkdirAll(f.path, f.mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// confine leaves this process what its configuration needs. A successor has what its predecessor has.
func (s *service) confine() error {
	need := grant(s.file, s.config)
	if has := confine.Inherited(); has != nil {
		if missing := has.Missing(existing(&need)); len(missing) > 0 {
			return shutOut(missing)
		}
		s.confined = has
		return nil
	}
	if !s.config.Confine {
		return nil
	}
	var extent confine.Extent
	var err error
	if s.confined, extent, err = confine.Apply(need); err != nil {
		return fmt.Errorf("this process cannot be confined: %w; `confine: off` does without", err)
	}
	switch {
	case extent == confine.Nothing:
		s.log.Warn("this kernel has no Landlock: files and connections are bounded by the user's rights alone")
	case extent == confine.Files:
		s.log.Warn("this kernel's Landlock does not know TCP (Linux 6.7 does): outgoing connections are not confined")
	case need.Ports == nil:
		s.log.Info("confined to the files of the configuration; outgoing connections are not: the nodes of store.redis may have any port")
	default:
		s.log.Info("confined to the files and ports of the configuration", "write", s.confined.Write, "connect", s.confined.Ports)
	}
	return nil
}

// inherits is why the running process's rights bound the next one's.
const inherits = "the running gatepost has given up for good whatever its configuration did not need, and so has a successor by gatepost upgrade"

func shutOut(missing []string) error {
	return fmt.Errorf("%s. Restart it (systemctl restart gatepost) for: %s", inherits, strings.Join(missing, "; "))
}

// needsRestart refuses what neither this process nor a successor may do any more. Ports are tried: whether they need a
// right is the machine's to say (net.ipv4.ip_unprivileged_port_start).
func (h *house) needsRestart(c *config.Config) error {
	var missing []string
	want := func(key, what string) { missing = append(missing, fmt.Sprintf("%s: %s: %s", c.Place(key), key, what)) }
	if c.User != h.started.User {
		want("user", "it is settled at the start")
	}
	if c.Group != h.started.Group {
		want("group", "it is settled at the start")
	}
	if h.confined != nil {
		for _, claim := range claims(h.file, c) {
			if lacks := h.confined.Missing(existing(&claim.Grant)); len(lacks) > 0 {
				want(claim.key, strings.Join(lacks, ", "))
			}
		}
	}
	if os.Geteuid() != 0 && !slices.Equal(needed(h.started), needed(c)) && len(needed(c)) > 0 {
		want("backend.client_address", "the capability for addresses of others")
	}
	if len(missing) > 0 {
		return shutOut(missing)
	}
	return nil
}
