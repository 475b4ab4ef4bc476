// Command gatepost is a spam-filtering SMTP proxy. `gatepost help` lists what it can do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gatepost/proxy/config"
)

// version is set by the linker.
var version = "unknown"

// exitStatus is an error that has been told already and only sets the exit status.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	err := command().ExecuteContext(context.Background())
	var status exitStatus
	switch {
	case err == nil:
		return
	case errors.As(err, &status):
	default:
		status = 1
		tell(err)
	}
	os.Exit(int(status))
}

// tell writes an error to standard error.
func tell(err error) {
	var problems config.Problems
	if errors.As(err, &problems) { // each of them starts with its place
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Fprintln(os.Stderr, "gatepost:", err)
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "gatepost",
		Short:         "A spam-filtering SMTP proxy in front of the mail server you already run",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		serveCommand(),
		checkCommand(),
		configCommand(),
		initCommand(),
		doctorCommand(),
		evalCommand(),
		demoCommand(),
		whyCommand(),
		journalCommand(),
		backtestCommand(),
		observeCommand(),
		promoteCommand(),
		recommendCommand(),
		bypassCommand(),
		greylistCommand(),
		learnedCommand("known", "See and forget the senders that have written here before", "a sender or a domain, such as alice@example.org or example.org"),
		learnedCommand("correspondents", "See and forget whom users have written to", "an address or a domain, such as bob@example.net or example.net"),
		learnedCommand("pools", "See and forget the pools of senders that pass as one", "a domain, such as example.org"),
		learnedCommand("reputation", "See and forget how things went with networks and domains", "a client's address or network, or a domain with all below it"),
		learnedCommand("traps", "See and forget who has written to spam traps", "a trap"),
		allowCommand(),
		blockCommand(),
		quarantineCommand(),
		dmarcCommand(),
		storeCommand(),
		stateCommand(),
		adminCommand(),
		upgradeCommand(),
		versionCommand(),
		manCommand(),
	)
	return root
}

// configFlag adds -c, which every command that reads the configuration has.
func configFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
}
