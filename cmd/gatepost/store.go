package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/control"
)

func storeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "See how the store is, and copy the embedded one into the shared one and back"}
	file := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	cmd.AddCommand(&cobra.Command{
		Use:   "status",
		Short: "Say whether the shared store is used, and what a running proxy has in its own",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := socketOf(cmd, *file)
			if err != nil {
				return err
			}
			var st storeStatus
			if err := control.Call(cmd.Context(), socket, "store.status", nil, &st); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\nmarks in the embedded store: %d\n", st.State, st.Entries)
			return nil
		},
	})
	var from, to string
	clone := &cobra.Command{
		Use:   "copy --from embedded --to shared",
		Short: "Copy all marks and reputations from one store into the other, while proxies run",
		Long: `Copy all marks from one store into the other:

  --from embedded --to shared    before a first proxy, or one more, is switched to store.redis
  --from shared --to embedded    before a proxy goes back to a store of its own

embedded is the one in store.path: of the proxy that runs with it, or of none. shared is the one in store.redis. What is
known in both is merged: the earliest first attempt, the latest pass, the more of the counts of a reputation. So proxies may use both meanwhile, and a copy that
was interrupted is just started again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			section, problems := config.Store(*file, all.Specs())
			if problems.Failed() {
				return problems
			}
			return copyStore(cmd.Context(), section, from, to, cmd.ErrOrStderr())
		},
	}
	clone.Flags().StringVar(&from, "from", "", "embedded or shared")
	clone.Flags().StringVar(&to, "to", "", "embedded or shared")
	cmd.AddCommand(clone)
	return cmd
}
