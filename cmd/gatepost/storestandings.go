package main

import (
	"context"
	"errors"

	"gatepost/filters"
	"gatepost/proxy/control"
)

// copyStandings goes through the source once. Both may have counted the same messages, so the more of each kind holds:
// that can be done again, but what two proxies have counted apart does not add up.
func copyStandings(ctx context.Context, source, target copyEnd) (copied int, err error) {
	var keys []string
	var standings []filters.Standing
	flush := func() error {
		if len(keys) == 0 {
			return nil
		}
		bounded, cancel := context.WithTimeout(ctx, copyPatient)
		defer cancel()
		if err := target.mergeStandings(bounded, keys, standings); err != nil {
			return err
		}
		copied += len(keys)
		keys, standings = keys[:0], standings[:0]
		return nil
	}
	var failed error
	read := source.eachStanding(ctx, func(key string, s filters.Standing) bool {
		if keys, standings = append(keys, key), append(standings, s); len(keys) == copyBatch {
			failed = flush()
		}
		return failed == nil
	})
	if failed == nil { // also of a source that broke off
		failed = flush()
	}
	return copied, errors.Join(failed, read)
}

func (p sharedEnd) eachStanding(ctx context.Context, yield func(key string, s filters.Standing) bool) error {
	return p.RangeStandings(ctx, "", yield)
}

func (p sharedEnd) mergeStandings(ctx context.Context, keys []string, standings []filters.Standing) error {
	return p.MergeStandings(ctx, keys, standings)
}

func (p embeddedEnd) eachStanding(ctx context.Context, yield func(key string, s filters.Standing) bool) error {
	return p.RangeStandings(ctx, "", yield)
}

func (p embeddedEnd) mergeStandings(ctx context.Context, keys []string, standings []filters.Standing) error {
	return mergePatiently(ctx, p.Store, func() error { return p.MergeStandings(ctx, keys, standings) })
}

func (p runningEnd) eachStanding(ctx context.Context, yield func(key string, s filters.Standing) bool) error {
	return control.Stream(ctx, p.socket, "store.standings", nil, func(item storeStanding) bool {
		return yield(string(item.Key), item.Standing)
	})
}

func (p runningEnd) mergeStandings(ctx context.Context, keys []string, standings []filters.Standing) error {
	request := storeMergeStandings{Standings: make([]storeStanding, len(keys))}
	for i, key := range keys {
		request.Standings[i] = storeStanding{[]byte(key), standings[i]}
	}
	return control.Call(ctx, p.socket, "store.mergestandings", request, nil)
}
