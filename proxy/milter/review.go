package milter

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// Review says which rules ask for something that a milter cannot do, or does in another way than the proxy. All are
// warnings: the same rules may serve the proxy too.
func Review(e *policy.Engine) (problems []rules.Problem) {
	for _, r := range e.Rules().Rules() {
		if r.Mode != rules.Enforce {
			continue
		}
		for _, text := range reviewRule(e, r) {
			problems = append(problems, rules.Problem{Pos: r.Pos, Warning: true, Message: r.Name + " as a milter: " + text})
		}
	}
	return problems
}

func reviewRule(e *policy.Engine, r *rules.Rule) (found []string) {
	stage := filters.Stage(r.Stage)
	refuses := r.Action.Terminal() && r.Action != rules.Accept && r.Action != rules.Discard && r.Action != rules.Quarantine
	if e.ReadsPause(r) {
		found = append(found, "the MTA greets the client, so nobody knows whether it waited: those facts are absent")
	}
	if slices.Contains(r.Fields, "helo.extended") {
		found = append(found, "helo.extended is absent with Postfix, which does not tell EHLO from HELO")
	}
	if r.Action == rules.Slow && stage < filters.AtMessage && r.Delay > maxCommandDelay {
		found = append(found, fmt.Sprintf("the answer is held back for %s and not %s, for MTAs give up; only at the end of the message they wait", maxCommandDelay, r.Delay))
	}
	if r.Action == rules.Drop {
		found = append(found, "it answers 421, since only the MTA can close the connection")
	}
	if r.Keep {
		found = append(found, "no copy is kept: an MTA keeps what it has taken")
	}
	if refuses && stage == filters.AtConnect {
		found = append(found, "the MTA refuses the connection in words of its own")
	}
	if refuses && stage == filters.AtRcpt && slices.ContainsFunc(r.Fields, func(f string) bool { return strings.HasPrefix(f, "rcpt.") }) {
		found = append(found, "mail that came without SMTP (non_smtpd_milters) cannot lose one recipient: the whole message is refused at its end")
	}
	return found
}
