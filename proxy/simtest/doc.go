// Package simtest plays days of mail (policy/simulate) over real stores and holds the result against what is promised: the
// embedded store, and a Redis server shared by several proxies. `make test` has a short form, `make sim` the whole.
package simtest
