package front

import (
	"strings"

	"gatepost/filters"
	"gatepost/rules"
)

// HeaderFault is the reply to a header block that is too large, or has been through too many hosts to be anything but in
// a loop (RFC 5321, 6.3). ok is false when nothing is wrong with it.
func HeaderFault(h *filters.Header, maxSize, maxHops int) (fault rules.Reply, ok bool) {
	if h.Cut || h.Size > maxSize {
		return rules.Reply{Code: 552, Enhanced: "5.3.4", Text: "The header of the message is too large"}, true
	}
	hops := 0
	for i := range h.Fields {
		if strings.EqualFold(h.Fields[i].Name, "Received") {
			hops++
		}
	}
	if hops > maxHops {
		return rules.Reply{Code: 554, Enhanced: "5.4.6", Text: "The message has passed through too many hosts; it is in a loop"}, true
	}
	return rules.Reply{}, false
}
