package admin

import (
	"fmt"
	"net/http"
	"strings"
)

// health says that the process lives and answers; nothing else, or it would be restarted for the faults of others.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "ok\n")
}

// ready says whether mail can be taken now. The reasons why not are for who may come in: they name machines.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	reasons, hints := s.Options.Ready(), s.hints()
	mayKnow := s.auth().hasSignedIn(r)
	switch {
	case len(reasons) == 0 && len(hints) > 0 && mayKnow:
		plain(w, http.StatusOK, "ready\n"+strings.Join(hints, "\n")+"\n")
	case len(reasons) == 0:
		plain(w, http.StatusOK, "ready\n")
	case mayKnow:
		plain(w, http.StatusServiceUnavailable, "not ready\n"+strings.Join(reasons, "\n")+"\n")
	default:
		plain(w, http.StatusServiceUnavailable, "not ready\n")
	}
}

func (s *Server) hints() []string {
	if s.Hints == nil {
		return nil
	}
	return s.Hints()
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}
