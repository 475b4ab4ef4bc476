package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"gatepost/filters"
)

const (
	// maxPasted bounds a configuration that is tried.
	maxPasted = 1 << 20
	// tryTime is how long one may run. It is shorter than a response may take (writeTimeout).
	tryTime = 45 * time.Second
	// defaultPast is over what a configuration is tried.
	defaultPast = "7d"
)

// pasts are what is offered.
var pasts = []string{"1d", "7d", "30d"}

// rulesData is what rules.html shows.
type rulesData struct {
	Rules []Rule
	Text  string
	Since string
	Pasts []string
	Now   time.Time
}

func (s *Server) rulesPage(w http.ResponseWriter, r *http.Request) {
	text, err := s.House.RulesText()
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "rules", "Rules", rulesData{s.House.Rules(), text, defaultPast, pasts, s.Clock.Now()})
}

// trialData is what trial.html shows.
type trialData struct {
	*Trial
	Text  string
	Since string
	Pasts []string
	Shown int // transactions of each group
}

// shownExamples is how many transactions of a group a page names, and the API.
const (
	shownExamples = 20
	toldExamples  = 200
)

func (s *Server) tryPage(w http.ResponseWriter, r *http.Request) {
	text, since, err := pasted(r)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	trial, err := s.try(r.Context(), text, since)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "trial", "What would change", trialData{trial, string(text), since, pasts, shownExamples})
}

// try checks and tries a configuration, one at a time.
func (s *Server) try(ctx context.Context, text []byte, since string) (*Trial, error) {
	var span filters.Duration
	if err := span.UnmarshalText([]byte(since)); err != nil {
		return nil, fmt.Errorf("since: %w", err)
	}
	done, err := s.take(s.trying)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	start := time.Now()
	trial, err := s.House.Try(ctx, text, time.Duration(span))
	if err == nil {
		trial.Took = time.Since(start)
	}
	return trial, err
}

// pasted reads the form with a configuration in it. It comes as parts and not in the usual encoding of forms, which
// takes three bytes for most of what is not a letter.
func pasted(r *http.Request) (text []byte, since string, err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, "", err
	}
	since = defaultPast
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return text, since, nil
		}
		if err != nil {
			return nil, "", err
		}
		value, err := io.ReadAll(io.LimitReader(part, maxPasted+1))
		if err != nil {
			return nil, "", err
		}
		if len(value) > maxPasted {
			return nil, "", fmt.Errorf("that is more than %s", byteSize(maxPasted))
		}
		switch part.FormName() {
		case "text":
			text = []byte(strings.ReplaceAll(string(value), "\r\n", "\n"))
		case "since":
			since = string(value)
		}
	}
}

// download hands the pasted text back as a file: the page never writes a configuration.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	text, _, err := pasted(r)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="gatepost-new.yaml"`)
	_, _ = w.Write(text)
}

func (s *Server) listsPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "lists", "Lists", s.House.Lists())
}

func (s *Server) configurationPage(w http.ResponseWriter, r *http.Request) {
	text, err := s.House.Configuration()
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "configuration", "Configuration in force", text)
}
