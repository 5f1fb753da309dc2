package main

import (
	"regexp"
	"strings"
)

// pattern is a -run expression as package testing reads it: alternatives, each a list of
// regular expressions for the levels of a test's name. The runner needs to know whether an
// expression has found what it names: `go test -run TestA/no_such` passes.
type pattern [][]*regexp.Regexp

func parsePattern(text string) (pattern, error) {
	var p pattern
	for _, alternative := range splitOutside(text, '|') {
		var levels []*regexp.Regexp
		for _, level := range splitOutside(alternative, '/') {
			re, err := regexp.Compile(strings.ReplaceAll(level, " ", "_"))
			if err != nil {
				return nil, err
			}
			levels = append(levels, re)
		}
		p = append(p, levels)
	}
	return p, nil
}

// match reports which alternative names the test or one of its parents; -1 is none.
func (p pattern) match(test string) int {
	names := strings.Split(test, "/")
next:
	for i, levels := range p {
		if len(names) < len(levels) {
			continue
		}
		for j, level := range levels {
			if !level.MatchString(names[j]) {
				continue next
			}
		}
		return i
	}
	return -1
}

// splitOutside splits at a separator that is in no bracket of a regular expression.
func splitOutside(text string, separator byte) []string {
	var (
		parts         []string
		start         int
		round, square int
	)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '[':
			square++
		case c == ']':
			square = max(0, square-1)
		case c == '(' && square == 0:
			round++
		case c == ')' && square == 0:
			round--
		case c == separator && square == 0 && round == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}
