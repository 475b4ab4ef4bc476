package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is the command itself when it is called by that name, in scripts as in tests that run it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gatepost": main, "gatepost-halfway": halfway})
}

// The scripts in testdata run the real command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}
