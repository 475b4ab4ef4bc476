package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// apiCalls is how every operation is called, by method and path.
var apiCalls = map[string]struct{ path, body string }{
	"GET /api/now": {}, "GET /api/journal": {path: "/api/journal?where=x&since=2d&limit=5"}, "GET /api/journal/{id}": {path: "/api/journal/" + entryID},
	"GET /api/why": {path: "/api/why?about=" + entryID}, "GET /api/rules": {}, "POST /api/rules/try": {path: "/api/rules/try?since=1d", body: "rules: []"},
	"GET /api/rules/observed": {path: "/api/rules/observed?since=1d"}, "GET /api/rules/recommended": {},
	"GET /api/greylist": {}, "POST /api/greylist/pass": {body: `{"query":"192.0.2.7"}`}, "POST /api/greylist/forget": {body: `{"query":"192.0.2.7"}`},
	"GET /api/learned": {}, "GET /api/learned/{memory}": {path: "/api/learned/known?query=x&limit=5"},
	"POST /api/learned/{memory}/forget": {path: "/api/learned/known/forget", body: `{"query":"example.net"}`},
	"GET /api/exceptions":               {}, "POST /api/exceptions": {body: `{"action":"allow","value":"192.0.2.7","for":"1d","why":"asked"}`},
	"DELETE /api/exceptions": {path: "/api/exceptions?action=allow&kind=client&value=192.0.2.7"}, "GET /api/lists": {}, "GET /api/configuration": {},
	"GET /api/quarantine": {}, "GET /api/quarantine/{id}": {path: "/api/quarantine/" + entryID},
	"POST /api/quarantine/{id}/release": {path: "/api/quarantine/" + entryID + "/release"}, "DELETE /api/quarantine/{id}": {path: "/api/quarantine/" + entryID},
}

func asJSON(r *http.Request) {
	if r.URL.Path != "/api/rules/try" {
		r.Header.Set("Content-Type", "application/json")
	}
}

// Every answer is what the document that is served says it is.
func TestTheDocumentAndTheHandlersAgree(t *testing.T) {
	v := start(t, Default(), nil)
	v.house.quarantine = true
	_, text := v.get("/api/openapi.json")
	var document map[string]any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	check := &checker{t, document}
	described := 0
	for path, methods := range document["paths"].(object) {
		for method, operation := range methods.(object) {
			described++
			name := strings.ToUpper(method) + " " + path
			call, ok := apiCalls[name]
			if !ok {
				t.Errorf("%s is not called here", name)
				continue
			}
			if call.path == "" {
				call.path = path
			}
			response, text := v.do(strings.ToUpper(method), call.path, call.body, asJSON)
			var got any
			if err := json.Unmarshal([]byte(text), &got); err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%s: %d, %v: %s", name, response.StatusCode, err, text)
				continue
			}
			check.value(name, schemaOf(operation, "200"), got)
			query := strings.SplitN(call.path, "?", 2)
			if len(query) > 1 {
				check.parameters(name, operation.(object), query[1])
			}
		}
	}
	if described != len(Operations()) || described != len(apiCalls) {
		t.Errorf("%d are described, %d are there and %d are called", described, len(Operations()), len(apiCalls))
	}
}

func schemaOf(operation any, status string) object {
	return operation.(object)["responses"].(object)[status].(object)["content"].(object)["application/json"].(object)["schema"].(object)
}

// checker compares values with a document's schemas.
type checker struct {
	t        *testing.T
	document object
}

func (c *checker) parameters(name string, operation object, query string) {
	values, _ := url.ParseQuery(query)
	for key := range values {
		known := slices.ContainsFunc(operation["parameters"].([]any), func(p any) bool { return p.(object)["name"] == key })
		if !known {
			c.t.Errorf("%s takes %s and the document does not know it", name, key)
		}
	}
}

func (c *checker) value(at string, schema object, value any) {
	c.t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		schema = c.document["components"].(object)["schemas"].(object)[name].(object)
	}
	kind := ""
	switch v := value.(type) {
	case string:
		kind = "string"
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
				c.t.Errorf("%s: %v", at, err)
			}
		}
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
		if schema["type"] == "integer" && v == float64(int64(v)) {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for i, item := range v {
			c.value(fmt.Sprintf("%s[%d]", at, i), schema["items"].(object), item)
		}
	case object:
		kind = "object"
		c.object(at, schema, v)
	case nil:
		kind = "null"
	}
	if wanted := schema["type"]; wanted != nil && wanted != kind {
		c.t.Errorf("%s is a %s and not a %v", at, kind, wanted)
	}
}

func (c *checker) object(at string, schema, value object) {
	properties, _ := schema["properties"].(object)
	for key, item := range value {
		of, ok := properties[key].(object)
		if !ok {
			of, ok = schema["additionalProperties"].(object)
		}
		if !ok {
			c.t.Errorf("%s has %s, and the document does not know it", at, key)
			continue
		}
		c.value(at+"."+key, of, item)
	}
	required, _ := schema["required"].([]any)
	for _, key := range required {
		if _, ok := value[key.(string)]; !ok {
			c.t.Errorf("%s lacks %s", at, key)
		}
	}
}

func TestMistakesOfPrograms(t *testing.T) {
	v := start(t, Default(), nil)
	for _, test := range []struct {
		method, path, body, kind string
		status                   int
		told                     string
	}{
		{"POST", "/api/greylist/pass", `{"query":"x"}`, "text/plain", 422, "application/json belongs here"},
		{"POST", "/api/greylist/pass", `{"qeury":"x"}`, "application/json", 422, "(query)"},
		{"POST", "/api/exceptions", `{"for":"soon"}`, "application/json", 422, "the body is not what belongs here"},
		{"POST", "/api/exceptions", `{"value":"` + strings.Repeat("x", maxRequest) + `"}`, "application/json", 422, "the body is not what belongs here"},
		{"POST", "/api/rules/try", strings.Repeat("x", maxPasted+1), "application/yaml", 422, "more than 1.0 MiB"},
		{"POST", "/api/rules/try?since=soon", "rules: []", "application/yaml", 422, "since"},
		{"GET", "/api/journal?limit=0", "", "", 422, "1 to 1000"},
		{"GET", "/api/journal?limit=1001", "", "", 422, "1 to 1000"},
		{"GET", "/api/journal?where=bad", "", "", 422, "script"},
		{"GET", "/api/journal?where=" + strings.Repeat("x", maxQuery+1), "", "", 422, "too long"},
		{"GET", "/api/journal/nothing", "", "", 404, "no such thing"},
		{"GET", "/api/nothing", "", "", 404, "openapi.json"},
		{"DELETE", "/api/exceptions?action=allow", "", "", 404, "no such thing"},
	} {
		response, text := v.do(test.method, test.path, test.body, func(r *http.Request) { r.Header.Set("Content-Type", test.kind) })
		var got apiError
		if err := json.Unmarshal([]byte(text), &got); err != nil || response.StatusCode != test.status || !strings.Contains(got.Error, test.told) {
			t.Errorf("%s %.60s: %d %s", test.method, test.path, response.StatusCode, text)
		}
	}
}

// The API is behind the same door as the pages.
func TestTheAPIWantsThePassword(t *testing.T) {
	v := start(t, secured(t), nil)
	v.house.quarantine = true
	for _, o := range Operations() {
		if response, _ := v.do(o.Method, strings.Replace(o.Path, "{id}", entryID, 1), "", nil); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s %s: %d", o.Method, o.Path, response.StatusCode)
		}
	}
	for _, path := range append(everyPage, "/api/openapi.json", "/events") {
		if response, _ := v.do("GET", path, "", nil); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	if got := v.house.log(); got != "" {
		t.Errorf("something was done: %s", got)
	}
}
