package engine

import (
	_ "embed"

	"github.com/redis/rueidis"
)

//go:embed prelude.lua
var prelude string

//go:embed marks.lua
var marksText string

//go:embed attempt.lua
var attemptText string

//go:embed pass.lua
var passText string

//go:embed forget.lua
var forgetText string

//go:embed merge.lua
var mergeText string

//go:embed spend.lua
var spendText string

//go:embed tally.lua
var tallyText string

// The scripts may be sent again on another connection when one is lost: at worst an attempt counts twice.
var (
	attemptScript = script(marksText + attemptText)
	passScript    = script(marksText + passText)
	forgetScript  = script(marksText + forgetText)
	mergeScript   = script(marksText + mergeText)
	spendScript   = script(spendText)
	tallyScript   = script(tallyText)
)

func script(text string) *rueidis.Lua { return rueidis.NewLuaScriptRetryable(prelude + text) }
