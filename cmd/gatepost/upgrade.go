package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/control"
)

// upgradeRequest is the argument of the call "upgrade".
type upgradeRequest struct {
	Binary string `json:"binary,omitempty"`
}

// upgraded is its value.
type upgraded struct {
	PID      int   `json:"pid"`
	Sessions int64 `json:"sessions"` // that the old process finishes
}

func upgradeCommand() *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Let the binary that is installed now take over from the running gatepost, without a session lost",
		Long: `Let the binary that is installed now take over from the running gatepost, without a session lost.

The running gatepost starts it with its own arguments and sockets. When the new one has loaded the configuration, has the
store, and serves, the old one accepts nobody any more and finishes its sessions. If anything goes wrong before, the old
one goes on as before, and this command says why and exits with status 1. SIGUSR2 to the running gatepost does the same.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	cmd.Flags().StringVar(&binary, "binary", "", "`file` to run instead of the one that the running gatepost was started from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, problems := config.Load(*file, all.Specs())
		if c == nil {
			return allProblems(*file, problems)
		}
		if binary != "" {
			var err error
			if binary, err = filepath.Abs(binary); err != nil {
				return err
			}
		}
		var done upgraded
		if err := control.Call(cmd.Context(), controlSocket(c.Store), "upgrade", upgradeRequest{Binary: binary}, &done); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "process %d serves now; the old one finishes its sessions (%d)\n", done.PID, done.Sessions)
		return nil
	}
	return cmd
}

// handleUpgrade registers the call.
func (h *house) handleUpgrade() {
	h.control.Handle("upgrade", func(_ context.Context, arguments json.RawMessage) (any, error) {
		var r upgradeRequest
		if err := json.Unmarshal(arguments, &r); err != nil {
			return nil, err
		}
		pid, err := h.handOver(r.Binary)
		if err != nil {
			return nil, err
		}
		return upgraded{PID: pid, Sessions: h.server.Metrics().Open.Load()}, nil
	})
}
