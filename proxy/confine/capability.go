package confine

// Capability is a right of root's that a process can keep without being root; the number is Linux's.
type Capability int
