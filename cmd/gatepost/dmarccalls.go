package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatepost/filters/dmarc"
	"gatepost/filters/dmarc/report"
)

// rowsPerItem keeps a line of the control protocol far below its bound.
const rowsPerItem = 200

// dmarcReports answers the call "dmarc.reports".
func (h *house) dmarcReports(ctx context.Context, arguments json.RawMessage, send func(any) error) error {
	var request dmarcRequest
	if err := json.Unmarshal(arguments, &request); err != nil {
		return err
	}
	day, err := time.Parse(time.DateOnly, request.Day)
	if err != nil {
		return fmt.Errorf("%q is not a day such as 2026-01-05", request.Day)
	}
	h.mu.Lock()
	filter, _ := h.force.engine.Filter("dmarc").(*dmarc.Filter)
	h.mu.Unlock()
	if filter == nil {
		return errors.New("the filter dmarc is off")
	}
	var sent error
	err = filter.Reports(ctx, day, request.Domain, func(r *report.Report) bool {
		rows := r.Rows
		r.Rows = nil
		r.Generator = "gatepost " + version
		for sent = send(dmarcItem{Report: r}); sent == nil && len(rows) > 0; {
			n := min(len(rows), rowsPerItem)
			sent = send(dmarcItem{Rows: rows[:n]})
			rows = rows[n:]
		}
		return sent == nil
	})
	return errors.Join(err, sent)
}
