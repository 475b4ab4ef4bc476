package doctor

import (
	"context"
	"path/filepath"

	"gatepost/proxy/control"
)

// Descriptors beside those of clients, backends and look-ups: the store's files, listeners, spilled messages.
const otherFiles = 500

// perClient is the memory that a connected client takes while its session waits, generously.
const perClient = 16 << 10

func (x *examiner) checkLimits(_ context.Context, f *findings) {
	c := x.Config
	need := uint64(c.Limits.Connections + len(c.Backend.Address)*c.Backend.Connections + c.Resolver.Inflight + otherFiles)
	whose := "this shell's, the service's may differ (LimitNOFILE)"
	have, err := x.machine.openFiles(filepath.Join(c.Store.Path, control.Name))
	if err == nil {
		whose = "the running gatepost's"
	} else {
		have, err = x.machine.openFiles("")
	}
	switch {
	case err != nil:
		f.add(Notice, "open files", "the limit is not known").saw("%v", err)
	case have < need:
		f.add(Warning, "open files", "%d are too few for limits.connections: %d: clients would be turned away", have, c.Limits.Connections).
			saw("%s; %d may be needed", whose, need).advise("LimitNOFILE=65536 in the unit, or lower limits.connections")
	default:
		f.add(OK, "open files", "%d may be open, %d are needed at most", have, need).saw("%s", whose)
	}
	memory, err := x.machine.memory()
	want := uint64(c.Limits.Memory) + uint64(c.Limits.Connections)*perClient
	switch {
	case err != nil:
		f.add(Notice, "memory", "how much there is is not known").saw("%v", err)
	case want > memory/4*3:
		f.add(Warning, "memory", "limits: allow for more than this machine can well give").
			saw("%d MiB of memory; limits.memory and limits.connections may take %d MiB", memory>>20, want>>20).
			advise("lower limits.memory or limits.connections")
	default:
		f.add(OK, "memory", "is enough for what limits: allow").saw("%d MiB; %d MiB may be taken", memory>>20, want>>20)
	}
}

// checkClock: greylisting, DKIM signatures and certificates all live by it.
func (x *examiner) checkClock(_ context.Context, f *findings) {
	now := x.machine.now()
	if now.Year() < 2026 {
		f.add(Error, "clock", "it is wrong: signatures and certificates will not be believed").saw("it says %s", now.UTC().Format("2006-01-02 15:04 MST")).
			advise("set it, and let NTP keep it (systemd-timesyncd, chrony)")
		return
	}
	switch synchronised, err := x.machine.synchronised(); {
	case err != nil:
		f.add(Notice, "clock", "whether it is synchronised is not known").saw("%v", err)
	case !synchronised:
		f.add(Warning, "clock", "nothing keeps it right").saw("the kernel says that it is not synchronised (adjtimex)").
			advise("run systemd-timesyncd or chrony; in a container this may be the host's business")
	default:
		f.add(OK, "clock", "is synchronised").saw("%s", now.UTC().Format("2006-01-02 15:04 MST"))
	}
}
