package policyserver

import (
	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// Review says which rules ask for something that a policy server cannot do, or does in another way than the proxy. All
// are warnings: the same rules may serve another front end too.
func Review(e *policy.Engine) (problems []rules.Problem) {
	tags := 0
	for _, r := range e.Rules().Rules() {
		if r.Mode != rules.Enforce {
			continue
		}
		if r.Action == rules.Tag && filters.Stage(r.Stage) < filters.AtMessage {
			tags++
		}
		for _, text := range reviewRule(e, r, tags) {
			problems = append(problems, rules.Problem{Pos: r.Pos, Warning: true, Message: r.Name + " as a policy server: " + text})
		}
	}
	return problems
}

// reviewRule looks at one rule; tags is how many there are that add a field, up to this one.
func reviewRule(e *policy.Engine, r *rules.Rule, tags int) (found []string) {
	stage := filters.Stage(r.Stage)
	if stage == filters.AtMessage {
		return append(found, "it needs the message, which Postfix does not show to a policy server: it never acts there")
	}
	if e.ReadsPause(r) {
		found = append(found, "the MTA greets the client, so nobody knows whether it waited: those facts are absent")
	}
	if stage == filters.AtData {
		found = append(found, "it acts only where smtpd_data_restrictions names the policy server too")
	}
	if r.Action == rules.Drop {
		found = append(found, "it answers 421, since only the MTA can close the connection")
	}
	if r.Action == rules.Tag && tags > 1 {
		found = append(found, "Postfix takes one field with an answer: this one comes only where it asks again, about another recipient or at DATA")
	}
	return found
}
