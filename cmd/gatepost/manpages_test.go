package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every command that help shows has a page, with all its options.
func TestManPages(t *testing.T) {
	folder := t.TempDir()
	if err := manPages(command(), folder); err != nil {
		t.Fatal(err)
	}
	for _, c := range command().Commands() {
		text, err := os.ReadFile(filepath.Join(folder, "gatepost-"+c.Name()+".1"))
		if c.Hidden || !c.IsAvailableCommand() {
			if err == nil {
				t.Errorf("a page about %s, which is hidden", c.Name())
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		page := string(text)
		for _, part := range []string{".TH GATEPOST\\-", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n"} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: there is no %s", c.Name(), part)
			}
		}
	}
	page, err := os.ReadFile(filepath.Join(folder, "gatepost-doctor.1"))
	if err != nil || !strings.Contains(string(page), `.B \-c, \-\-config file`) || !strings.Contains(string(page), `\-\-json`) {
		t.Errorf("%v\n%s", err, page)
	}
}

func TestQuoteRoff(t *testing.T) {
	if got := quoteRoff(".TH x\n'so /etc/passwd\na\\fB-b"); got != "\\&.TH x\n\\&'so /etc/passwd\na\\efB\\-b" {
		t.Errorf("%q", got)
	}
}
