package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/proxy/admin"
)

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Help with the admin pages"}
	cmd.AddCommand(&cobra.Command{
		Use:   "password",
		Short: "Read a password from standard input and print its hash, for admin.password",
		Long: `Read a password, one line, from standard input and print its hash (Argon2id), for the configuration:

  read -rs PASSWORD; printf '%s\n' "$PASSWORD" | gatepost admin password

A program sends the password itself as that of any user (HTTP Basic authentication).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64<<10)).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			hash, err := admin.Hash(strings.TrimRight(line, "\r\n"))
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), hash)
			return nil
		},
	})
	return cmd
}
