package rules

import (
	"errors"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// The facts of the tests: those of the product, as far as the default rules read them.
const (
	atConnect = iota
	atHelo
	atMail
	atRcpt
	atData
	atMessage
)

var testStages = []string{"connect", "helo", "mail", "rcpt", "data", "message"}

type clientFacts struct {
	IP      netip.Addr `fact:"ip"`
	Name    string     `fact:"name"`
	Trusted bool       `fact:"trusted"`
}

type heloFacts struct {
	Name string `fact:"name"`
	TLS  bool   `fact:"tls"`
	User string `fact:"user"`
}

type mailFacts struct {
	Address string `fact:"address"`
	Domain  string `fact:"domain"`
	Size    int64  `fact:"size" unit:"bytes"`
	Null    bool   `fact:"null"`
}

type rcptFacts struct {
	Address string `fact:"address"`
	Domain  string `fact:"domain"`
	Local   string `fact:"local"`
}

type messageFacts struct {
	Size   int          `fact:"size" unit:"bytes"`
	Header HeaderSource `fact:"header"`
}

type (
	limitConnect struct {
		Connection string `fact:"connection"`
	}
	limitMail struct {
		Message string `fact:"message"`
	}
	limitRcpt struct {
		Recipient string `fact:"recipient"`
	}
	dnsblConnect struct {
		Score   float64  `fact:"score"`
		Listed  []string `fact:"listed"`
		Allowed []string `fact:"allowed"`
	}
	dnsblHelo struct {
		Score float64 `fact:"helo_score"`
	}
	dnsblMail struct {
		Score float64 `fact:"sender_score"`
	}
	rdnsFacts struct {
		Confirmed bool   `fact:"confirmed"`
		Name      string `fact:"name"`
		Generic   bool   `fact:"generic"`
	}
	heloObserved struct {
		Valid    bool  `fact:"valid"`
		Ours     bool  `fact:"ours"`
		Literal  bool  `fact:"literal"`
		Resolves *bool `fact:"resolves"`
		Matches  *bool `fact:"matches"`
	}
	earlyFacts struct {
		Talked bool `fact:"talked"`
	}
	spfHelo struct {
		Result string `fact:"helo_result" values:"none neutral pass fail softfail temperror permerror"`
	}
	spfMail struct {
		Result string `fact:"result" values:"none neutral pass fail softfail temperror permerror"`
		Domain string `fact:"domain"`
		Wide   bool   `fact:"wide"`
	}
	dkimFacts struct {
		Result  string   `fact:"result" values:"none pass fail temperror permerror policy neutral"`
		Domains []string `fact:"domains"`
	}
	dmarcFacts struct {
		Result string `fact:"result" values:"none pass fail temperror permerror"`
		Policy string `fact:"policy" values:"none quarantine reject"`
		Domain string `fact:"domain"`

		Override string `fact:"override" values:"none trusted_forwarder mailing_list"`
	}
	greylistFacts struct {
		State string `fact:"state" values:"new early passed"`
	}
	knownFacts struct {
		Domain        bool `fact:"domain"`
		Correspondent bool `fact:"correspondent"`
	}
	exceptionClient struct {
		Client string `fact:"client" values:"none allowed blocked"`
	}
	exceptionSender struct {
		Sender string `fact:"sender" values:"none allowed blocked"`
	}
	exceptionRecipient struct {
		Recipient string `fact:"recipient" values:"none allowed blocked"`
	}
	reputationMail struct {
		NetworkScore   *float64 `fact:"network_score"`
		NetworkTrapped float64  `fact:"network_trapped"`
		DomainScore    *float64 `fact:"domain_score"`
	}
	reputationRcpt struct {
		Trap bool `fact:"trap"`
	}
	// oddFacts are of every kind and form that the product's facts above leave out.
	oddFacts struct {
		Flag    *bool       `fact:"flag"`
		Count   *int        `fact:"count"`
		Ratio   float64     `fact:"ratio"`
		Word    *string     `fact:"word"`
		Words   *[]string   `fact:"words" values:"red green blue"`
		Relay   *netip.Addr `fact:"relay"`
		Ignored string
	}
)

var testGroups = []Group{
	{Name: "client", Type: reflect.TypeFor[clientFacts](), Stage: atConnect},
	{Name: "ratelimit", Type: reflect.TypeFor[limitConnect](), Stage: atConnect},
	{Name: "dnsbl", Type: reflect.TypeFor[dnsblConnect](), Stage: atConnect},
	{Name: "rdns", Type: reflect.TypeFor[rdnsFacts](), Stage: atConnect},
	{Name: "earlytalker", Type: reflect.TypeFor[earlyFacts](), Stage: atConnect},
	{Name: "helo", Type: reflect.TypeFor[heloFacts](), Stage: atHelo},
	{Name: "helo", Type: reflect.TypeFor[heloObserved](), Stage: atHelo},
	{Name: "dnsbl", Type: reflect.TypeFor[dnsblHelo](), Stage: atHelo},
	{Name: "spf", Type: reflect.TypeFor[spfHelo](), Stage: atHelo},
	{Name: "mail", Type: reflect.TypeFor[mailFacts](), Stage: atMail, Given: true},
	{Name: "ratelimit", Type: reflect.TypeFor[limitMail](), Stage: atMail},
	{Name: "dnsbl", Type: reflect.TypeFor[dnsblMail](), Stage: atMail},
	{Name: "spf", Type: reflect.TypeFor[spfMail](), Stage: atMail},
	{Name: "rcpt", Type: reflect.TypeFor[rcptFacts](), Stage: atRcpt},
	{Name: "ratelimit", Type: reflect.TypeFor[limitRcpt](), Stage: atRcpt},
	{Name: "greylist", Type: reflect.TypeFor[greylistFacts](), Stage: atRcpt},
	{Name: "message", Type: reflect.TypeFor[messageFacts](), Stage: atMessage},
	{Name: "dkim", Type: reflect.TypeFor[dkimFacts](), Stage: atMessage},
	{Name: "dmarc", Type: reflect.TypeFor[dmarcFacts](), Stage: atMessage},
	{Name: "odd", Type: reflect.TypeFor[oddFacts](), Stage: atMail},
	{Name: "exception", Type: reflect.TypeFor[exceptionClient](), Stage: atConnect},
	{Name: "exception", Type: reflect.TypeFor[exceptionSender](), Stage: atMail},
	{Name: "exception", Type: reflect.TypeFor[exceptionRecipient](), Stage: atRcpt},
	{Name: "known", Type: reflect.TypeFor[knownFacts](), Stage: atMail},
	{Name: "reputation", Type: reflect.TypeFor[reputationMail](), Stage: atMail},
	{Name: "reputation", Type: reflect.TypeFor[reputationRcpt](), Stage: atRcpt},
}

func testSchema(t testing.TB) *Schema {
	t.Helper()
	s, err := NewSchema(testStages, atRcpt, testGroups)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// groupOf finds the group whose facts are of the type of facts.
func groupOf(t testing.TB, facts any) int {
	t.Helper()
	for i, g := range testGroups {
		if g.Type == reflect.TypeOf(facts).Elem() {
			return i
		}
	}
	t.Fatalf("no group of %T", facts)
	return 0
}

func setFacts(t testing.TB, f *Facts, groups ...any) *Facts {
	t.Helper()
	for _, facts := range groups {
		f.Set(groupOf(t, facts), facts)
	}
	return f
}

// written makes the Source of text that starts at column 1 of the line.
func written(line int, text string) Source {
	return Source{Text: text, At: func(offset int) Pos {
		before := text[:offset]
		newline := strings.LastIndexByte(before, '\n') + 1
		return Pos{File: "test.yaml", Line: line + strings.Count(before, "\n"), Column: len([]rune(before[newline:])) + 1}
	}}
}

type listFiles map[string]string

func (l listFiles) ReadList(name string) ([]byte, error) {
	content, ok := l[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if content == "unreadable" {
		return nil, errors.New("input/output error")
	}
	return []byte(content), nil
}

func mustCompile(t testing.TB, s *Schema, lists Lists, definitions ...Definition) *Set {
	t.Helper()
	set, problems := Compile(s, definitions, lists)
	if set == nil {
		t.Fatalf("does not compile: %v", problems)
	}
	return set
}

// mustExpr compiles one condition as the condition of a rule, which acts where it is ready.
func mustExpr(t testing.TB, s *Schema, text string) *Rule {
	t.Helper()
	set := mustCompile(t, s, listFiles{"names": ".example.net\n", "networks": "198.51.100.0/24\n"}, Definition{
		Name: written(1, "rule"), When: written(2, text), Then: written(3, "reject"),
	})
	return set.Rules()[0]
}

func TestSchemaRefusesBadGroups(t *testing.T) {
	type (
		twice struct {
			A string `fact:"address"`
		}
		hidden struct {
			a string `fact:"a"` //lint:ignore U1000 the schema must refuse it
		}
		badName struct {
			A string `fact:"Big-Name"`
		}
		badKind struct {
			A map[string]string `fact:"a"`
		}
		badValues struct {
			A int `fact:"a" values:"1 2"`
		}
	)
	tests := []struct {
		group Group
		want  string
	}{
		{Group{Name: "mail", Type: reflect.TypeFor[twice](), Stage: atMail}, "the fact mail.address exists already"},
		{Group{Name: "x", Type: reflect.TypeFor[hidden](), Stage: atMail}, "exported field"},
		{Group{Name: "x", Type: reflect.TypeFor[badName](), Stage: atMail}, "exported field and a name of a-z"},
		{Group{Name: "x", Type: reflect.TypeFor[badKind](), Stage: atMail}, "map[string]string cannot be a fact"},
		{Group{Name: "x", Type: reflect.TypeFor[badValues](), Stage: atMail}, "only texts and lists"},
		{Group{Name: "x", Type: reflect.TypeFor[int](), Stage: atMail}, "not a struct"},
		{Group{Name: "x", Type: reflect.TypeFor[earlyFacts](), Stage: 6}, "stage 6 does not exist"},
		{Group{Name: "score", Type: reflect.TypeFor[earlyFacts](), Stage: 0}, "cannot be the name of a group"},
		{Group{Name: "messages", Type: reflect.TypeFor[messageFacts](), Stage: atMessage}, "message.header is the header already"},
	}
	for _, test := range tests {
		_, err := NewSchema(testStages, atRcpt, append(testGroups[:len(testGroups):len(testGroups)], test.group))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: got %v, want %q", test.group, err, test.want)
		}
	}
}

func TestFactsReadWhatWasSet(t *testing.T) {
	s := testSchema(t)
	f := s.NewFacts()
	yes, count, words := true, 7, []string{"red"}
	setFacts(t, f,
		&clientFacts{IP: netip.MustParseAddr("::ffff:192.0.2.1"), Name: "mx"},
		&dnsblConnect{Score: 4.5, Listed: []string{"a", "b"}},
		&oddFacts{Flag: &yes, Count: &count, Words: &words},
		&messageFacts{Size: 10, Header: headers{"Subject": "hi"}})
	want := map[string]any{
		"client.ip": netip.MustParseAddr("192.0.2.1"), "client.name": "mx", "client.trusted": false,
		"dnsbl.score": 4.5, "dnsbl.listed": []string{"a", "b"}, "dnsbl.allowed": []string(nil),
		"odd.flag": true, "odd.count": 7.0, "odd.ratio": 0.0, "odd.words": []string{"red"},
		"message.size": 10.0,
	}
	got := map[string]any{}
	f.All(func(name string, value any) { got[name] = value })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("All: got %v, want %v", got, want)
	}
	for _, fact := range s.Facts() {
		value, ok := f.Lookup(fact.Name)
		if wanted, there := want[fact.Name]; ok != there || !reflect.DeepEqual(value, wanted) {
			t.Errorf("Lookup(%s): %v, %v", fact.Name, value, ok)
		}
	}
	if value, ok := f.Lookup(`header("subject")`); value != "hi" || !ok {
		t.Errorf("Lookup of a header field: %v, %v", value, ok)
	}
	if _, ok := f.Lookup("no.such"); ok {
		t.Error("Lookup found a fact that does not exist")
	}

	other := s.NewFacts()
	f.SetScore(3)
	f.Fail(groupOf(t, &spfMail{}))
	other.CopyFrom(f)
	f.Clear(groupOf(t, &clientFacts{}))
	if _, ok := f.Lookup("client.name"); ok {
		t.Error("a cleared group is still known")
	}
	if _, ok := other.Lookup("client.name"); !ok || other.Score() != 3 || !other.Failed(groupOf(t, &spfMail{})) {
		t.Error("the copy is not independent or not complete")
	}
	other.Set(groupOf(t, &spfMail{}), &spfMail{})
	if other.Failed(groupOf(t, &spfMail{})) {
		t.Error("a group that was set still counts as failed")
	}
}

func TestSetRefusesAnotherType(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	testSchema(t).NewFacts().Set(0, &spfMail{})
}

func TestSchemaDescribesFacts(t *testing.T) {
	s := testSchema(t)
	fact, ok := s.Fact("mail.size")
	if !ok || fact.Unit != "bytes" || fact.Kind != Number || fact.Field != "Size" || fact.Type != reflect.TypeFor[mailFacts]() || fact.Stage != atMail {
		t.Errorf("mail.size: %+v", fact)
	}
	if fact, _ := s.Fact("greylist.state"); len(fact.Values) != 3 {
		t.Errorf("greylist.state: %+v", fact)
	}
	if _, ok := s.Fact("message.header"); ok {
		t.Error("the header is no fact")
	}
}

// headers has the canonical names as keys.
type headers map[string]string

func (h headers) Header(name string) (string, bool) {
	value, ok := h[name]
	return value, ok
}
