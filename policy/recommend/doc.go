// Package recommend surveys mail that has come and tells which settings would fit it better: how long to greylist, what
// limits good senders never meet, which senders come back from other addresses, which block lists say nothing.
//
// A [Survey] is handed recordings in the order in which they were made; its findings are figures, and what follows from
// them. It decides nothing and knows no file: whoever asks puts a finding into a configuration, and runs a backtest
// (policy/replay) of that.
//
// What is counted is an estimate from what was recorded, and each finding says from how much. Memory is bounded: beyond
// the bounds, new senders and clients are not looked at.
package recommend
