package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"gatepost/filters"
	"gatepost/proxy/control"
	"gatepost/proxy/store"
	"gatepost/proxy/store/engine"
	"gatepost/proxy/store/shared"
)

// copyEnd is a store that marks are copied from or to.
type copyEnd interface {
	size(ctx context.Context) (int64, error) // about
	each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error
	merge(ctx context.Context, space string, keys []string, marks []filters.Mark) error
	eachStanding(ctx context.Context, yield func(key string, s filters.Standing) bool) error
	mergeStandings(ctx context.Context, keys []string, standings []filters.Standing) error
	close() error
}

const (
	copyBatch   = 200
	copyPatient = 30 * time.Second // for one batch
)

// copyStore copies all marks. A terminal sees how far it is.
func copyStore(ctx context.Context, c store.Config, from, to string, w io.Writer) (err error) {
	if from == to || from != "embedded" && from != "shared" || to != "embedded" && to != "shared" {
		return errors.New("say --from embedded --to shared, or --from shared --to embedded")
	}
	source, err := openEnd(ctx, c, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	target, err := openEnd(ctx, c, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	if err := transfer(ctx, source, target, w); err != nil {
		return fmt.Errorf("the copy broke off; start it again: %w", err)
	}
	return nil
}

// transfer takes all marks and standings of source to target. A terminal sees how far it is.
func transfer(ctx context.Context, source, target copyEnd, w io.Writer) error {
	total, err := source.size(ctx)
	if err != nil {
		return err
	}
	bar, finish := copyProgress(w, total)
	copied, err := copyMarks(ctx, source, target, bar)
	finish()
	fmt.Fprintf(w, "Marks copied: %d\n", copied)
	if err != nil {
		return err
	}
	copied, err = copyStandings(ctx, source, target)
	fmt.Fprintf(w, "Standings copied: %d\n", copied)
	return err
}

// copyMarks goes through the source once; advance is told of each batch.
func copyMarks(ctx context.Context, source, target copyEnd, advance func(n int)) (copied int, err error) {
	type batch struct {
		keys  []string
		marks []filters.Mark
	}
	batches := map[string]*batch{}
	flush := func(space string, b *batch) error {
		bounded, cancel := context.WithTimeout(ctx, copyPatient)
		defer cancel()
		if err := target.merge(bounded, space, b.keys, b.marks); err != nil {
			return err
		}
		copied += len(b.keys)
		advance(len(b.keys))
		b.keys, b.marks = b.keys[:0], b.marks[:0]
		return nil
	}
	var failed error
	read := source.each(ctx, func(space, key string, m filters.Mark) bool {
		if space == shared.OutageSpace {
			return true
		}
		b := batches[space]
		if b == nil {
			b = &batch{}
			batches[space] = b
		}
		if b.keys, b.marks = append(b.keys, key), append(b.marks, m); len(b.keys) == copyBatch {
			failed = flush(space, b)
		}
		return failed == nil
	})
	for space, b := range batches { // also of a source that broke off
		if failed == nil && len(b.keys) > 0 {
			failed = flush(space, b)
		}
	}
	return copied, errors.Join(failed, read)
}

// copyProgress draws a bar if w is a terminal.
func copyProgress(w io.Writer, total int64) (advance func(n int), finish func()) {
	file, isFile := w.(*os.File)
	if !isFile {
		return func(int) {}, func() {}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func(int) {}, func() {}
	}
	bars := mpb.New(mpb.WithOutput(file))
	bar := bars.AddBar(total, mpb.PrependDecorators(decor.Name("marks "), decor.CountersNoUnit("%d / %d")),
		mpb.AppendDecorators(decor.AverageETA(decor.ET_STYLE_GO)))
	return bar.IncrBy, func() {
		bar.SetTotal(-1, true) // expired marks were counted and did not come
		bars.Wait()
	}
}

func openEnd(ctx context.Context, c store.Config, name string) (copyEnd, error) {
	if name == "shared" {
		if !c.Redis.Enabled() {
			return nil, errors.New("the configuration names no shared store (store.redis.addresses)")
		}
		e, err := engine.Open(c.Redis, filters.SystemClock{})
		if err != nil {
			return nil, fmt.Errorf("the shared store: %w", err)
		}
		return sharedEnd{e}, nil
	}
	socket := controlSocket(c)
	err := control.Call(ctx, socket, "store.status", nil, nil)
	if err == nil {
		return runningEnd{socket}, nil
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return nil, err
	}
	s, err := store.Open(c, filters.SystemClock{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return embeddedEnd{s}, nil
}

// sharedEnd is the shared store.
type sharedEnd struct{ *engine.Engine }

func (p sharedEnd) size(ctx context.Context) (int64, error) { return p.Size(ctx) }

func (p sharedEnd) each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	return p.Each(ctx, yield)
}

func (p sharedEnd) merge(ctx context.Context, space string, keys []string, marks []filters.Mark) error {
	_, err := p.Merge(ctx, space, keys, marks)
	return err
}

func (p sharedEnd) close() error {
	p.Close()
	return nil
}

// embeddedEnd is an embedded store that no proxy runs with.
type embeddedEnd struct{ *store.Store }

func (p embeddedEnd) size(context.Context) (int64, error) { return p.Stats().Entries, nil }

func (p embeddedEnd) each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	return p.Each(ctx, yield)
}

func (p embeddedEnd) merge(ctx context.Context, space string, keys []string, marks []filters.Mark) error {
	return mergePatiently(ctx, p.Store, func() error { return p.Merge(ctx, space, keys, marks) })
}

// mergePatiently waits for the disk where memory is full of what it has not taken yet.
func mergePatiently(ctx context.Context, s *store.Store, merge func() error) error {
	err := merge()
	if errors.Is(err, store.ErrFull) {
		if err = s.Flush(ctx); err == nil {
			err = merge()
		}
	}
	return err
}

func (p embeddedEnd) close() error { return p.Close() }

// runningEnd is the embedded store of a proxy that runs.
type runningEnd struct{ socket string }

func (p runningEnd) size(ctx context.Context) (int64, error) {
	var st storeStatus
	err := control.Call(ctx, p.socket, "store.status", nil, &st)
	return st.Entries, err
}

func (p runningEnd) each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	return control.Stream(ctx, p.socket, "store.read", nil, func(item storeMark) bool {
		return yield(item.Space, string(item.Key), item.Mark)
	})
}

func (p runningEnd) merge(ctx context.Context, space string, keys []string, marks []filters.Mark) error {
	request := storeMerge{Space: space, Keys: make([][]byte, len(keys)), Marks: marks}
	for i, key := range keys {
		request.Keys[i] = []byte(key)
	}
	return control.Call(ctx, p.socket, "store.merge", request, nil)
}

func (p runningEnd) close() error { return nil }
