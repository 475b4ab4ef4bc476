package doctor

import (
	"context"
	"log/slog"
	"sync"

	"gatepost/filters"
	"gatepost/proxy/config"
	"gatepost/proxy/resolver"
)

// Options is what Examine is told.
type Options struct {
	// File is the name of the configuration file, Config what is in it; a good one.
	File   string
	Config *config.Config
	// Warnings are what config.Check has said of it.
	Warnings config.Problems
}

// examiner is one run of all checks.
type examiner struct {
	Options
	machine machine
	dns     filters.Resolver // nil: there is none
}

// checks in the order in which they are reported.
var checks = []struct {
	name string
	run  func(*examiner, context.Context, *findings)
}{
	{"config", (*examiner).checkConfig},
	{"resolver", (*examiner).checkResolver},
	{"lists", (*examiner).checkLists},
	{"backend", (*examiner).checkBackends},
	{"names", (*examiner).checkNames},
	{"certificates", (*examiner).checkCertificates},
	{"limits", (*examiner).checkLimits},
	{"clock", (*examiner).checkClock},
	{"folders", (*examiner).checkFolders},
	{"ports", (*examiner).checkPorts},
	{"rights", (*examiner).checkRights},
	{"admin", (*examiner).checkAdmin},
}

// Examine makes all checks at the same time. It returns when ctx ends at the latest; what is not known by then is said.
func Examine(ctx context.Context, o Options) Report { return examine(ctx, o, thisMachine()) }

func examine(ctx context.Context, o Options, m machine) Report {
	x := &examiner{Options: o, machine: m}
	if r, err := resolver.New(o.Config.Resolver, filters.SystemClock{}, slog.New(slog.DiscardHandler)); err == nil {
		x.dns = r
		defer r.Close()
	}
	found := make([]findings, len(checks))
	var running sync.WaitGroup
	for i, c := range checks {
		found[i].check = c.name
		running.Go(func() { c.run(x, ctx, &found[i]) })
	}
	running.Wait()
	report := Report{Findings: []Finding{}}
	for _, f := range found {
		for _, one := range f.list {
			report.Findings = append(report.Findings, one)
			report.Worst = max(report.Worst, one.Severity)
		}
	}
	return report
}

// checkConfig repeats the warnings, and looks whether strangers may read the secrets.
func (x *examiner) checkConfig(_ context.Context, f *findings) {
	for _, p := range x.Warnings {
		f.add(Warning, p.Pos.String(), "%s", p.Message)
	}
	switch info, err := x.machine.stat(x.File); {
	case err != nil:
		f.add(Warning, x.File, "cannot be looked at").saw("%v", err)
	case info.Mode().Perm()&0o004 != 0 && x.hasSecrets():
		f.add(Warning, x.File, "everybody on the machine can read its secrets").saw("mode %s", info.Mode().Perm()).
			advise("chmod 0640 %s, with the group that gatepost runs as", x.File)
	default:
		f.add(OK, x.File, "is good").saw("mode %s", info.Mode().Perm())
	}
	for _, network := range x.Config.Trusted {
		if network.Bits() == 0 {
			f.add(Error, "trusted", "%s is everybody: no rule and no domains: holds for anybody", network).
				advise("name your own relays and monitors there, nothing else")
		}
	}
}

func (x *examiner) hasSecrets() bool {
	if x.Config.Admin.Password.Reveal() != "" {
		return true
	}
	for _, z := range x.zones() {
		if z.Key.Reveal() != "" {
			return true
		}
	}
	return false
}
