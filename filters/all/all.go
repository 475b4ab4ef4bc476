// Package all is the table of the filters. A new filter is a folder beside this one and a line here.
package all

import (
	"gatepost/filters"
	"gatepost/filters/arc"
	"gatepost/filters/dkim"
	"gatepost/filters/dmarc"
	"gatepost/filters/dnsbl"
	"gatepost/filters/earlytalker"
	"gatepost/filters/exception"
	"gatepost/filters/greylist"
	"gatepost/filters/helo"
	"gatepost/filters/known"
	"gatepost/filters/milter"
	"gatepost/filters/ratelimit"
	"gatepost/filters/rdns"
	"gatepost/filters/reputation"
	"gatepost/filters/spf"
)

// Specs lists every filter, in the order of the dialogue: the order of facts in logs and manuals. It decides nothing.
func Specs() []filters.Spec {
	return []filters.Spec{
		ratelimit.Spec,
		exception.Spec,
		earlytalker.Spec,
		rdns.Spec,
		helo.Spec,
		dnsbl.Spec,
		spf.Spec,
		known.Spec,
		reputation.Spec,
		greylist.Spec,
		dkim.Spec,
		arc.Spec,
		dmarc.Spec,
		milter.Spec,
	}
}
