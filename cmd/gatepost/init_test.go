package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/setup"
)

func emptySystem(t *testing.T) setup.System {
	return setup.System{Root: t.TempDir(), Now: time.Now,
		Run: func(context.Context, string, ...string) (string, error) { return "", errors.New("no programs") }}
}

// What is answered outdoes what was found; an empty line takes it.
func TestInitAsks(t *testing.T) {
	var out, talk bytes.Buffer
	answers := "mx.example.org\nexample.org, example.net\n\nproxy-v1\n\npostmaster@example.org\n"
	err := initialise(t.Context(), emptySystem(t), initFlags{output: "-", mta: "postfix"}, true, strings.NewReader(answers), &out, &talk)
	if err != nil {
		t.Fatalf("%v\n%s", err, &talk)
	}
	for _, line := range []string{`hostname: "mx.example.org"`, `domains: ["example.org", "example.net"]`, `  address: "127.0.0.1:10025"`,
		"  client_address: proxy-v1", `contact: "postmaster@example.org"`} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("there is no line %s in\n%s", line, &out)
		}
	}
	if !strings.Contains(talk.String(), "[127.0.0.1:10025]") || !strings.Contains(talk.String(), "smtpd_upstream_proxy_protocol=haproxy") {
		t.Errorf("it says\n%s", &talk)
	}
	if strings.Contains(talk.String(), "its key") {
		t.Error("it asks for the key of no certificate")
	}
}

// Who leaves in the middle finds nothing written.
func TestInitIsLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatepost.yaml")
	var out, talk bytes.Buffer
	if err := initialise(t.Context(), emptySystem(t), initFlags{output: file}, true, strings.NewReader("mx.example.org\n"), &out, &talk); err == nil {
		t.Error("half of the answers are enough")
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is there: %v", err)
	}
}

func TestInitKeepsModeAndGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatepost.yaml")
	if err := os.WriteFile(file, []byte("# nothing\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(file, 0, 12345); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	var out, talk bytes.Buffer
	if err := initialise(t.Context(), emptySystem(t), initFlags{output: file, hostname: "mx.example.org", domains: []string{"example.org"}}, false, nil, &out, &talk); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	if err != nil || after.Mode() != before.Mode() || groupOf(after) != groupOf(before) || after.Size() == before.Size() {
		t.Errorf("%v, %v, %v", before, after, err)
	}
}
