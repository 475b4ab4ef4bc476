package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"gatepost/filters"
)

// Operation is something that the API does. Routes, the OpenAPI document and the manual are made from the same list.
type Operation struct {
	Method, Path string // Path as OpenAPI and http.ServeMux have it: /api/journal/{id}
	Summary      string
	Query        []Parameter // of the query
	Body         any         // a zero value of what is sent, or Text; nil: nothing
	Answer       any         // a zero value of what comes back
	handle       func(s *Server, r *http.Request) (any, error)
}

// Parameter is one of a query.
type Parameter struct {
	Name, Summary string
	Required      bool
}

// Text is the body of an operation that takes a file as it is.
type Text string

// apiError is what comes back where something did not work.
type apiError struct {
	Error string `json:"error"`
}

const maxRequest = 64 << 10

func (s *Server) apiRoutes() {
	document := openAPI(Operations())
	s.Handle("GET /api/openapi.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, document) }))
	for _, o := range Operations() {
		s.Handle(o.Method+" "+o.Path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			value, err := o.handle(s, r)
			if err != nil {
				if errors.Is(err, errBusy) {
					w.Header().Set("Retry-After", "30")
				}
				answer(w, statusOf(err), apiError{err.Error()})
				return
			}
			answer(w, http.StatusOK, value)
		}))
	}
	s.Handle("/api/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, apiError{"there is no such operation; /api/openapi.json lists them all"})
	}))
}

func answer(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// request reads the body of an operation. A form of another site cannot send this type without asking first.
func request[T any](r *http.Request) (value T, err error) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return value, errors.New("Content-Type: application/json belongs here")
	}
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		return value, fmt.Errorf("the body is not what belongs here (%s): %w", strings.Join(fieldNames(reflect.TypeFor[T]()), ", "), err)
	}
	return value, nil
}

// fileText reads a body that is a file.
func fileText(r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxPasted+1))
	if err == nil && len(text) > maxPasted {
		err = fmt.Errorf("that is more than %s", byteSize(maxPasted))
	}
	return text, err
}

// span is a time span in a request, such as 30d.
type span = filters.Duration
