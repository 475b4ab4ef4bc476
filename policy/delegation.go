package policy

// Foreseen is what is certain about a message before it comes, for a front end that is never shown it: with the Action
// Discard or Quarantine a rule has it go there and not be delivered, and tags are the fields that rules want on top of
// it, without line ends. It is asked behind Accepted or Data.
func (g *Gate) Foreseen() (v Verdict, tags []string) {
	if rule := g.instead(); rule != nil {
		v = g.insteadVerdict(rule)
	}
	for c := range g.carriers {
		for _, tag := range c.tags {
			tags = append(tags, cut(tag, maxField))
		}
	}
	return v, tags
}
