package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// shellLine is a line of a shell as far as it matters here: the words of its simple commands, without redirections.
type shellLine struct {
	text     string
	commands [][]string
}

// shellLines takes a script apart: quotes, comments, continuations, pipes, lists and redirections, and no more of the
// language. What is in a here-document belongs to its line.
func shellLines(script string) ([]shellLine, error) {
	var lines []shellLine
	for rest := script; strings.TrimSpace(rest) != ""; {
		var line shellLine
		var err error
		if line, rest, err = nextShellLine(rest); err != nil {
			return nil, err
		}
		if len(line.commands) > 0 {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func nextShellLine(script string) (line shellLine, rest string, err error) {
	var command []string
	var word strings.Builder
	inWord, redirected, hereEnd := false, false, ""
	endWord := func() {
		if inWord && !redirected {
			command = append(command, word.String())
		}
		if inWord {
			redirected = false
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		for len(command) > 0 && strings.Contains(command[0], "=") && !strings.ContainsAny(command[0], "'\" ") { // VARIABLE=value
			command = command[1:]
		}
		if len(command) > 0 {
			line.commands = append(line.commands, command)
		}
		command = nil
	}
	i := 0
	for ; i < len(script) && script[i] != '\n'; i++ {
		switch c := script[i]; {
		case c == '\\' && i+1 < len(script):
			i++
			if script[i] != '\n' {
				word.WriteByte(script[i])
				inWord = true
			}
		case c == '\'' || c == '"':
			end := closingQuote(script[i+1:], c)
			if end < 0 {
				return line, "", errors.New("a quote does not end: " + script)
			}
			word.WriteString(script[i+1 : i+1+end])
			inWord = true
			i += end + 1
		case c == '#' && !inWord:
			for i+1 < len(script) && script[i+1] != '\n' {
				i++
			}
		case c == ' ' || c == '\t':
			endWord()
		case c == '|' || c == ';' || c == '&':
			endCommand()
		case c == '<' && strings.HasPrefix(script[i:], "<<'"):
			end := strings.IndexByte(script[i+3:], '\'')
			hereEnd = script[i+3 : i+3+end]
			i += 3 + end
		case c == '<' || c == '>':
			endWord()
			redirected = true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	if hereEnd != "" {
		end := strings.Index(script[i:], "\n"+hereEnd+"\n")
		if end < 0 {
			return line, "", errors.New("a here-document does not end: " + script)
		}
		i += end + len(hereEnd) + 1
	}
	line.text = script[:min(i, len(script))]
	return line, script[min(i+1, len(script)):], nil
}

func closingQuote(text string, quote byte) int {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote:
			return i
		}
	}
	return -1
}

func TestShellLines(t *testing.T) {
	script := "gatepost check    # looks\nA=1 curl -s 'a b' \\\n  -d \"x|y\" | jq .id >out\n\n# nothing\nread -rs P; printf '%s\\n' \"$P\" | gatepost admin password && true\n" +
		"cat >>/etc/x <<'EOF'\ngatepost no\nEOF\ngatepost why - < bounce.eml\n"
	want := [][][]string{
		{{"gatepost", "check"}},
		{{"curl", "-s", "a b", "-d", "x|y"}, {"jq", ".id"}},
		{{"read", "-rs", "P"}, {"printf", "%s\\n", "$P"}, {"gatepost", "admin", "password"}, {"true"}},
		{{"cat"}},
		{{"gatepost", "why", "-"}},
	}
	lines, err := shellLines(script)
	if err != nil {
		t.Fatal(err)
	}
	var got [][][]string
	for _, l := range lines {
		got = append(got, l.commands)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if _, err := shellLines("echo 'x"); err == nil {
		t.Error("a quote without an end is taken")
	}
}
