package filters

import (
	"encoding/hex"
	"net/netip"
	"strings"
)

// SpellsAddress tells whether the name of a host, in lower case, is made of its address, as those of access networks are:
// three of its four numbers, or its hexadecimal digits.
func SpellsAddress(name string, client netip.Addr) bool {
	client = client.Unmap()
	if client.Is6() {
		a := client.As16()
		digits := strings.Map(func(r rune) rune {
			if r == '-' || r == '.' {
				return -1
			}
			return r
		}, name)
		text := hex.EncodeToString(a[:])
		return strings.Contains(digits, text[16:]) || strings.Contains(digits, text[:16]) || spellsGroups(name, text)
	}
	a := client.As4()
	if strings.Contains(name, hex.EncodeToString(a[:])) {
		return true
	}
	var room [16]int
	numbers := decimals(room[:0], name)
	found := 0
	for _, octet := range a {
		for i, n := range numbers {
			if n == int(octet) {
				numbers[i] = -1
				found++
				break
			}
		}
	}
	return found >= 3
}

// decimals appends the numbers in a name; one of twelve digits is four of three.
func decimals(numbers []int, name string) []int {
	isDigit := func(i int) bool { return i < len(name) && '0' <= name[i] && name[i] <= '9' }
	for start, end := 0, 0; start < len(name); start = end + 1 {
		for end = start; isDigit(end); end++ {
		}
		digits := name[start:end]
		switch {
		case digits == "":
		case len(digits) == 12:
			for i := 0; i < 12; i += 3 {
				numbers = append(numbers, decimal(digits[i:i+3]))
			}
		case len(digits) <= 3:
			numbers = append(numbers, decimal(digits))
		}
	}
	return numbers
}

func decimal(digits string) (n int) {
	for i := range len(digits) {
		n = 10*n + int(digits[i]-'0')
	}
	return n
}

// spellsGroups tells whether three of an IPv6 address's groups are in a name, each on its own and as it is usually
// written. Groups of one digit are everywhere.
func spellsGroups(name, text string) bool {
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '.' })
	found := 0
	for i := 0; i < len(text); i += 4 {
		group := strings.TrimLeft(text[i:i+4], "0")
		for j, word := range words {
			if len(group) > 1 && strings.TrimLeft(word, "0") == group {
				words[j] = ""
				found++
				break
			}
		}
	}
	return found >= 3
}
