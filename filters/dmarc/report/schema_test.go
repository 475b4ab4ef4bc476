package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// element is what the schema of RFC 9990, Appendix A, says of one element: its children with how often they may be there,
// or the text that it holds.
type element struct {
	ordered  bool
	children []child
	text     *regexp.Regexp
}

type child struct {
	name     string
	min, max int
	element  element
}

func all(children ...child) element      { return element{children: children} }
func sequence(children ...child) element { return element{ordered: true, children: children} }
func text(pattern string) element        { return element{text: regexp.MustCompile(`^(?:` + pattern + `)$`)} }
func one(name string, e element) child   { return child{name, 1, 1, e} }
func maybe(name string, e element) child { return child{name, 0, 1, e} }
func many(name string, e element) child  { return child{name, 0, 1 << 30, e} }
func some(name string, e element) child  { return child{name, 1, 1 << 30, e} }

var (
	anything    = text(`(?s).*`)
	integer     = text(`[0-9]+`)
	policyWord  = text(`none|quarantine|reject`)
	alignMode   = text(`r|s`)
	passOrFail  = text(`pass|fail`)
	dkimWord    = text(`none|pass|fail|policy|neutral|temperror|permerror`)
	spfWord     = text(`none|pass|fail|softfail|neutral|temperror|permerror`)
	address     = text(`(\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*(\d{1,3}(\.\d{1,3}){3})?`)
	overridden  = text(`local_policy|mailing_list|other|policy_test_mode|trusted_forwarder`)
	disposition = text(`none|pass|quarantine|reject`)
)

var schema = sequence(
	maybe("version", text(`1\.0`)),
	one("report_metadata", all(
		one("org_name", anything), one("email", anything), maybe("extra_contact_info", anything), one("report_id", anything),
		one("date_range", all(one("begin", integer), one("end", integer))), maybe("error", anything), maybe("generator", anything))),
	one("policy_published", all(
		one("domain", anything), maybe("discovery_method", text(`psl|treewalk`)), one("p", policyWord), maybe("sp", policyWord), maybe("np", policyWord),
		maybe("fo", text(`[01ds](:[01ds])*`)), maybe("adkim", alignMode), maybe("aspf", alignMode), maybe("testing", text(`y|n`)))),
	some("record", sequence(
		one("row", sequence(
			one("source_ip", address), one("count", integer),
			one("policy_evaluated", sequence(
				one("disposition", disposition), one("dkim", passOrFail), one("spf", passOrFail),
				many("reason", all(one("type", overridden), maybe("comment", anything))))))),
		one("identifiers", all(one("header_from", anything), maybe("envelope_from", anything), maybe("envelope_to", anything))),
		one("auth_results", sequence(
			many("dkim", all(one("domain", anything), one("selector", anything), one("result", dkimWord), maybe("human_result", anything))),
			maybe("spf", all(one("domain", anything), maybe("scope", text(`mfrom`)), one("result", spfWord), maybe("human_result", anything))))))),
)

// node is a document as it was parsed.
type node struct {
	name     string
	text     string
	children []*node
}

func (n *node) find(path string) *node {
	for name := range strings.SplitSeq(path, "/") {
		var next *node
		for _, c := range n.children {
			if c.name == name {
				next = c
				break
			}
		}
		if n = next; n == nil {
			return nil
		}
	}
	return n
}

// validate checks a document against the schema.
func validate(document []byte) (*node, error) {
	root, err := parseDocument(document)
	if err != nil {
		return nil, err
	}
	if root.name != "feedback" {
		return nil, fmt.Errorf("the root is %s", root.name)
	}
	return root, schema.check(root, "feedback")
}

func parseDocument(document []byte) (*node, error) {
	decoder := xml.NewDecoder(strings.NewReader(string(document)))
	top := &node{}
	open := []*node{top}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && len(open) == 1 && len(top.children) == 1 {
			return top.children[0], nil
		}
		if err != nil {
			return nil, err
		}
		current := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space != "urn:ietf:params:xml:ns:dmarc-2.0" {
				return nil, fmt.Errorf("%s is in the namespace %q", t.Name.Local, t.Name.Space)
			}
			for _, a := range t.Attr {
				if a.Name.Local != "xmlns" {
					return nil, fmt.Errorf("%s has the attribute %s", t.Name.Local, a.Name.Local)
				}
			}
			n := &node{name: t.Name.Local}
			current.children = append(current.children, n)
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			current.text += string(t)
		case xml.ProcInst:
			if t.Target != "xml" {
				return nil, fmt.Errorf("there is an instruction %s", t.Target)
			}
		default:
			return nil, fmt.Errorf("there is a %T", t)
		}
	}
}

func (e *element) check(n *node, path string) error {
	if e.text != nil {
		if len(n.children) > 0 || !e.text.MatchString(n.text) {
			return fmt.Errorf("%s holds %q", path, n.text)
		}
		return nil
	}
	if strings.TrimSpace(n.text) != "" {
		return fmt.Errorf("%s has the text %q between its elements", path, n.text)
	}
	count, place := map[string]int{}, 0
	for _, c := range n.children {
		i := e.index(c.name)
		if i < 0 {
			return fmt.Errorf("%s/%s is not in the schema", path, c.name)
		}
		if e.ordered && i < place {
			return fmt.Errorf("%s/%s comes too late", path, c.name)
		}
		place = i
		count[c.name]++
		if err := e.children[i].element.check(c, path+"/"+c.name); err != nil {
			return err
		}
	}
	for _, c := range e.children {
		if n := count[c.name]; n < c.min || n > c.max {
			return fmt.Errorf("%s/%s is there %d times", path, c.name, n)
		}
	}
	return nil
}

func (e *element) index(name string) int {
	for i := range e.children {
		if e.children[i].name == name {
			return i
		}
	}
	return -1
}
