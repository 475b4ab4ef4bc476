package doctor

import (
	"context"
	"path/filepath"

	"gatepost/proxy/backend"
	"gatepost/proxy/confine"
	"gatepost/proxy/control"
)

// rights are those of a process.
type rights struct {
	user            int
	capabilities    uint64 // effective ones, a bit each
	noNewPrivileges bool
	seccomp         bool
}

// checkRights says what who breaks into the running gatepost would have.
func (x *examiner) checkRights(_ context.Context, f *findings) {
	c := x.Config
	r, err := x.machine.rights(filepath.Join(c.Store.Path, control.Name))
	var needed uint64
	if c.Backend.ClientAddress == backend.Transparent {
		needed = 1 << confine.Transparent
	}
	switch {
	case err != nil:
		f.add(OK, "user", "no gatepost runs that could be looked at").saw("%v", err)
	case r.user == 0:
		f.add(Warning, "user", "the running gatepost is root: whoever breaks into it owns the machine").
			advise("user: gatepost in the configuration, chown -R -h gatepost: on the folders of store and journal, and a restart; or start it by the unit")
	case r.capabilities&^needed != 0:
		f.add(Warning, "user", "the running gatepost has rights of root's that it has no use for").saw("user %d, CapEff %016x", r.user, r.capabilities).
			advise("restart it: it is older than its configuration, or was changed from outside")
	case !r.noNewPrivileges:
		f.add(Warning, "user", "the running gatepost could get rights by setuid programs").saw("NoNewPrivs 0").advise("restart it")
	default:
		f.add(OK, "user", "the running gatepost has no rights beyond its user's").saw("user %d, CapEff %016x, seccomp %t", r.user, r.capabilities, r.seccomp)
	}
	switch {
	case !c.Confine:
		f.add(Notice, "confine", "files and connections are bounded by the user's rights alone (confine: off)").advise("leave the key out if nothing speaks for it")
	case !x.machine.confines():
		f.add(Notice, "confine", "this kernel has no Landlock: files and connections are bounded by the user's rights alone").
			advise("Linux 6.7 or later, with landlock in lsm= of the kernel's command line")
	default:
		f.add(OK, "confine", "files and connections are confined to what the configuration names")
	}
}
