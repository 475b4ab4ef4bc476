package main

import (
	"context"
	"path/filepath"
	"time"

	"gatepost/filters/all"
	"gatepost/proxy/admin"
	"gatepost/proxy/journal"
)

// pastedName stands for a text that was pasted, in messages.
const pastedName = "pasted.yaml"

// Try implements admin.House.
func (o operator) Try(ctx context.Context, text []byte, since time.Duration) (*admin.Trial, error) {
	trial := &admin.Trial{}
	c, problems := o.h.inForce().config.Try(filepath.Join(filepath.Dir(o.h.file), pastedName), text, all.Specs())
	for _, p := range problems {
		if p.Warning {
			trial.Warnings = append(trial.Warnings, p.String())
		} else {
			trial.Problems = append(trial.Problems, p.String())
		}
	}
	if c == nil {
		return trial, nil
	}
	test, err := newTrial(c, "")
	if err != nil {
		trial.Problems = append(trial.Problems, err.Error())
		return trial, nil
	}
	reader, err := o.openJournal()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	err = reader.Each(ctx, journal.Query{Since: time.Now().Add(-since)}, func(e *journal.Entry) bool {
		if e.Session != nil {
			test.Add(e.Recording())
		}
		return ctx.Err() == nil
	})
	if ctx.Err() != nil {
		trial.Stopped, err = true, nil
	}
	trial.Report = test.Report()
	return trial, err
}
