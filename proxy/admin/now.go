package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The bars of the charts.
const (
	hourBar, hourBars = 30 * time.Second, 120
	dayBar, dayBars   = 10 * time.Minute, 144
)

// nowData is what now.html shows.
type nowData struct {
	Now
	Hour, Day chart
}

func (s *Server) nowData() nowData {
	now := s.House.Now()
	return nowData{
		Now:  now,
		Hour: draw("hour", "Transactions in the last hour", s.Traffic.Over(now.At, hourBar, hourBars), hourBar, now.At),
		Day:  draw("day", "Transactions in the last day", s.Traffic.Over(now.At, dayBar, dayBars), dayBar, now.At),
	}
}

func (s *Server) nowPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "now", "Now", s.nowData())
}

const (
	// streamPause is how often a page that is open hears what is new.
	streamPause = 2 * time.Second
	// streamLife is how long one stream lasts; the browser then asks again, and has to be signed in for that.
	streamLife = 10 * time.Minute
	// streamWrite is how long a browser may take to read an event.
	streamWrite = 10 * time.Second
)

// events sends the live part of the page Now again and again (server-sent events; HTML Living Standard, 9.2). The data
// is a string of JSON, so that it is one line whatever it holds.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streaming <- struct{}{}:
		defer func() { <-s.streaming }()
	default:
		busy(w)
		return
	}
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	end := time.NewTimer(streamLife)
	defer end.Stop()
	tick := time.NewTicker(streamPause)
	defer tick.Stop()
	for {
		var b bytes.Buffer
		if err := pages["now"].ExecuteTemplate(&b, "live", page{Data: s.nowData()}); err != nil {
			s.Log.Error("an admin page cannot be made; please report it", "page", "now", "error", err)
			return
		}
		text, _ := json.Marshal(string(visible(b.Bytes()))) // a string: it cannot fail
		if err := out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return
		}
		if _, err := fmt.Fprintf(w, "event: now\ndata: %s\n\n", text); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// errBusy tells that others ask for too much at the moment.
var errBusy = errors.New("others are asking for too much at the moment; try again in a minute")

func busy(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	http.Error(w, errBusy.Error(), http.StatusServiceUnavailable)
}
