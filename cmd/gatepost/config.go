package main

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/proxy/config"
)

// commentsJSON holds the comments of all configuration structs. `make docs` writes it from the source.
//
//go:embed comments.json
var commentsJSON []byte

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the complete configuration in force, defaults and explanations included",
		Args:  cobra.NoArgs,
	}
	file := configFlag(cmd)
	schema := cmd.Flags().Bool("schema", false, "print a JSON Schema of the file instead, for editors")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var comments config.Comments
		if err := json.Unmarshal(commentsJSON, &comments); err != nil {
			return fmt.Errorf("comments.json: %w", err)
		}
		if *schema {
			text, err := config.Schema(all.Specs(), comments)
			if err == nil {
				_, err = cmd.OutOrStdout().Write(text)
			}
			return err
		}
		c, problems := config.Load(*file, all.Specs())
		if c == nil {
			fmt.Fprintln(cmd.ErrOrStderr(), problems.Error())
			return exitStatus(1)
		}
		return c.Write(cmd.OutOrStdout(), comments)
	}
	return cmd
}
