package filters

// AuthResult is one method's result for the Authentication-Results field (RFC 8601, 2.2). Values are raw; the
// formatter quotes them.
type AuthResult struct {
	Method     string // "spf", "dkim", "dmarc", "iprev", "arc"
	Result     string // of the registry for the method
	Reason     string // optional
	Properties []AuthProperty
}

// AuthProperty is one ptype.property=value.
type AuthProperty struct{ Type, Name, Value string }

// AuthReporter is implemented by facts that have something to say in the Authentication-Results field.
type AuthReporter interface{ AuthResults(s *Session) []AuthResult }
