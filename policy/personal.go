package policy

import (
	"regexp"
	"slices"
	"strings"

	"gatepost/rules"
)

// personalFacts are those that a journal may have disguised: it keeps the domain of an address and something in place of
// its local part.
var personalFacts = []string{"mail.address", "mail.local", "rcpt.address", "rcpt.local", "helo.user"}

// literals finds texts in a condition.
var literals = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`")

// personalFact names the fact by which a rule may tell one local part from another, or is empty. The local parts that
// every site has to answer (RFC 2142: postmaster; abuse) are never disguised: a rule that compares with nothing else
// finds the truth.
func personalFact(r *rules.Rule) string {
	i := slices.IndexFunc(r.Fields, func(name string) bool { return slices.Contains(personalFacts, name) })
	if i < 0 {
		return ""
	}
	texts := literals.FindAllString(r.When, -1)
	onlyRoles := len(texts) > 0 && !slices.ContainsFunc(texts, func(text string) bool {
		role := strings.ToLower(text[1 : len(text)-1])
		return role != "postmaster" && role != "abuse"
	})
	comparesParts := !slices.ContainsFunc(r.Fields, func(name string) bool {
		return slices.Contains(personalFacts, name) && !strings.HasSuffix(name, ".local")
	})
	if onlyRoles && comparesParts && !strings.Contains(r.When, "len(") {
		return ""
	}
	return r.Fields[i]
}
