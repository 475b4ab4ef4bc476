package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"encoding/json"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/proxy/config"
	"gatepost/rules"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := config.Schema(all.Specs(), config.Comments{})
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("gatepost.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("gatepost.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validates is what an editor says of a file.
func validates(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(document)
}

// Whatever the manual shows, and whatever is built in, an editor takes for good.
func TestEveryExampleFitsTheSchema(t *testing.T) {
	s, examples := schema(t), 0
	for _, page := range pages(t) {
		for i, match := range fenced.FindAllStringSubmatch(read(t, page), -1) {
			if !configuration.MatchString(match[1]) {
				continue
			}
			examples++
			if err := validates(t, s, complete(match[1])); err != nil {
				t.Errorf("%s, example %d: %v", page, i+1, err)
			}
		}
	}
	if examples < 20 {
		t.Errorf("only %d examples found", examples)
	}
	texts := map[string]string{"whole": whole, "the default rules": "rules:\n  " + strings.ReplaceAll(string(rules.Default), "\n", "\n  ")}
	for _, pattern := range []string{"cmd/gatepost/demo/*.yaml", "deploy/debian/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			if text, err := os.ReadFile(file); err == nil && !strings.Contains(file, "nfpm") {
				texts[file] = string(text)
			}
		}
	}
	c, problems := config.Parse("whole", []byte(whole), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	var printed bytes.Buffer
	if err := c.Write(&printed, config.Comments{}); err != nil {
		t.Fatal(err)
	}
	texts["as gatepost config prints it"] = printed.String()
	for name, text := range texts {
		if err := validates(t, s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the schema refuses, check refuses, and the other way round where the schema can know.
func TestTheSchemaRefusesWhatCheckRefuses(t *testing.T) {
	s := schema(t)
	const good = "domains: [example.org]\nbackend: 127.0.0.1:10025\n"
	for _, bad := range []string{
		"domain: [example.org]\n",
		"filters: {dnsbl: {zone: []}}\n",
		"filters: {dnsbl: {zones: [{zone: a.example, code: {127.0.0.2: 4}}]}}\n",
		"filters: {nosuch: {}}\n",
		"filters: {greylist: {delay: soon}}\n",
		"filters: {greylist: {enabled: maybe}}\n",
		"filters: {greylist: {on_error: explode}}\n",
		"rules: [{name: a, whenn: helo.ours, then: reject}]\n",
		"rules: {name: a}\n",
		"limits: {connections: many}\n",
		"limits: {message_size: 5 elephants}\n",
		"limits: [1]\n",
		"listen: [{adress: \":25\"}]\n",
		"store: {path: {a: b}}\n",
		"line_endings: sometimes\n",
		"log: {level: loud}\n",
		"resolver: {servers: {a: b}}\n",
		"trusted: [everybody]\n",
		"journal: {addresses: some}\n",
	} {
		text := good + bad
		if c, _ := config.Parse("bad.yaml", []byte(text), all.Specs()); c != nil {
			if _, problems := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone())); !problems.Failed() {
				t.Errorf("check takes %q", bad)
			}
		}
		if validates(t, s, text) == nil {
			t.Errorf("the schema takes %q", bad)
		}
	}
	if err := validates(t, s, good); err != nil {
		t.Error(err)
	}
	if validates(t, s, "domains: [example.org]\nbackend: {address: \"127.0.0.1:25\", client_address: xclent}\n") == nil {
		t.Error("the schema takes a way that there is not")
	}
}

// Every word that the schema offers is one that check takes.
func TestTheSchemaOffersGoodWords(t *testing.T) {
	for format, words := range map[string]string{
		"backend: {address: \"127.0.0.1:10025\", client_address: %s}": "xclient proxy-v1 proxy-v2 transparent none",
		"backend: {address: \"mx.test:10025\", tls: %s}":              "auto none opportunistic required verified",
		"line_endings: %s":                     "normalize strict",
		"duplicates: %s":                       "deliver suppress",
		"log: {format: %s}":                    "text json",
		"log: {level: %s}":                     "debug info warn error",
		"journal: {addresses: %s}":             "clear keyed cut",
		"authentication_results: {remove: %s}": "ours all",
		"filters: {greylist: {on_error: %s}}":  "pass defer",
		"rules: [{name: a, when: helo.ours, then: reject, mode: %s}]":                             "enforce observe",
		"rules: [{name: a, when: helo.ours, then: reject, on_error: %s}]":                         "pass defer",
		"filters: {dnsbl: {zones: [{zone: a.test, codes: {127.0.0.2: 1}, kind: %s}]}}":            "client domain",
		"filters: {dnsbl: {zones: [{zone: a.test, codes: {127.0.0.2: 1}, ipv6: %s}]}}":            "on off auto",
		"filters: {dnsbl: {zones: [{zone: a.test, codes: {127.0.0.2: 1}, ipv4: %s, test: off}]}}": "on off",
	} {
		s := schema(t)
		for _, word := range strings.Fields(words) {
			text := complete(fmt.Sprintf(format, word))
			if problems := compile(t, "word.yaml", text); problems.Failed() {
				t.Errorf("%s: %v", text, problems)
			}
			if err := validates(t, s, text); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
		if problems := compile(t, "word.yaml", complete(fmt.Sprintf(format, "nonsense"))); !problems.Failed() {
			t.Errorf("check takes nonsense for %s: it is no list of words", format)
		}
	}
}
