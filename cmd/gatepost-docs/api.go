package main

import (
	"bytes"
	"fmt"
	"strings"

	"gatepost/proxy/admin"
)

// apiPage lists what the API does.
func apiPage() []byte {
	var b bytes.Buffer
	b.WriteString("# The API\n\n" + strings.Replace(generated, "the comments in the source", "the list of operations in proxy/admin", 1) + `
What the [admin pages](admin.md) show and do, for programs, on the same address: ` + "`http://127.0.0.1:8025/api/`" + `. It takes and gives
JSON; ` + "`/api/openapi.json`" + ` describes every value (OpenAPI 3.1), and a test holds it against the answers. Keys are added in later
releases, and none changes its meaning.

` + "```sh" + `
curl -s http://127.0.0.1:8025/api/now | jq .sessions
curl -s -G http://127.0.0.1:8025/api/journal --data-urlencode 'where=verdict == "reject"' --data-urlencode since=1d | jq -r '.entries[].id'
curl -s -u :"$PASSWORD" https://mx.example.org:8025/api/exceptions -H 'Content-Type: application/json' \
  -d '{"action":"allow","value":"example.net","for":"30d","why":"a customer"}'
curl -s http://127.0.0.1:8025/api/rules/try --data-binary @new.yaml -H 'Content-Type: application/yaml' | jq .report.changes
` + "```" + `

- With a password (` + "`admin.password`" + `) send it as that of any user (HTTP Basic authentication).
- What did not work has another status than 200 and says why: ` + "`{\"error\": \"…\"}`" + `. 422: it cannot be done as asked; 404: there is no
  such thing; 503: others ask for too much at the moment, try again.
- A body of JSON says so (` + "`Content-Type: application/json`" + `).
- A search looks for 20 s at most and answers with what it has found (` + "`stopped`" + ` tells how far it came), a trial for 45 s; four searches and
  one trial run at a time. ` + "`gatepost journal`" + ` and ` + "`gatepost backtest`" + ` have no such bounds.
- Entries of the journal are as ` + "`gatepost journal --json`" + ` prints them ([journal.md](journal.md)).

| operation | what it does | query | body |
|---|---|---|---|
`)
	for _, o := range admin.Operations() {
		fmt.Fprintf(&b, "| `%s %s` | %s | %s | %s |\n", o.Method, o.Path, o.Summary, parameters(o.Query), bodyOf(o.Body))
	}
	return b.Bytes()
}

func parameters(list []admin.Parameter) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = "`" + p.Name + "`: " + p.Summary
	}
	return strings.Join(texts, "; ")
}

func bodyOf(body any) string {
	switch body.(type) {
	case nil:
		return ""
	case admin.Text:
		return "the file"
	}
	return "`{\"" + strings.Join(admin.Keys(body), "\", \"") + "\"}`"
}
