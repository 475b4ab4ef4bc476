package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestCommandsPageIsFresh(t *testing.T) {
	var want bytes.Buffer
	commandsPage(&want, command())
	got, err := os.ReadFile(filepath.Join("..", "..", "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("docs/commands.md is stale: run `make docs`")
	}
}
