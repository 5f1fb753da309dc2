package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// mutant is one patch file: a header, then a unified diff.
//
//	defence: B1 a host outside of the configured domains is no tenant
//	module: .
//	package: ./tenanthttp
//	test: TestSubdomain/a_foreign_domain
//
//	diff --git a/tenanthttp/…
type mutant struct {
	file    string // name of the patch file
	path    string // where it is
	defence string // rows of the list of known leaks, and a sentence
	module  string // folder to run in, relative to the repository
	pkg     string // package to test, relative to the module
	test    string // -run expression of the test that must fail
	flags   []string
	diff    string
}

// target names the test with its package.
func (m *mutant) target() string { return filepath.Join(m.module, m.pkg) + " " + m.test }

var patchName = regexp.MustCompile(`^\d\d+-[a-z0-9-]+\.patch$`)

// readPatches reads the patches whose names match, and reports everything that is wrong with
// them at once.
func readPatches(dir string, only *regexp.Regexp) ([]*mutant, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var (
		mutants []*mutant
		errs    []error
	)
	for _, entry := range entries {
		name := entry.Name()
		if !patchName.MatchString(name) {
			if strings.HasSuffix(name, ".patch") {
				errs = append(errs, fmt.Errorf("%s: the name is not like 07-no-tenant.patch", name))
			}
			continue
		}
		if !only.MatchString(name) {
			continue
		}
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m, err := parsePatch(name, string(text))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.path = path
		mutants = append(mutants, m)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(mutants) == 0 {
		return nil, fmt.Errorf("no patch in %s matches %q", dir, only)
	}
	return mutants, nil
}

func parsePatch(name, text string) (*mutant, error) {
	m := &mutant{file: name}
	var (
		errs  []error
		flags string
	)
	fields := map[string]*string{
		"defence": &m.defence, "module": &m.module, "package": &m.pkg, "test": &m.test, "flags": &flags,
	}
	for number := 1; ; number++ {
		line, rest, more := strings.Cut(text, "\n")
		if strings.HasPrefix(line, "diff ") || strings.HasPrefix(line, "--- ") {
			m.diff = text
			break
		}
		if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			key, value, _ := strings.Cut(trimmed, ":")
			switch field := fields[key]; {
			case field == nil:
				errs = append(errs, fmt.Errorf("%s:%d: unknown key %q", name, number, key))
			case *field != "":
				errs = append(errs, fmt.Errorf("%s:%d: %s is given twice", name, number, key))
			default:
				*field = strings.TrimSpace(value)
			}
		}
		if !more {
			errs = append(errs, fmt.Errorf("%s: there is no diff", name))
			break
		}
		text = rest
	}
	for _, key := range []string{"defence", "module", "package", "test"} {
		if *fields[key] == "" {
			errs = append(errs, fmt.Errorf("%s: %s is missing", name, key))
		}
	}
	if _, err := parsePattern(m.test); err != nil {
		errs = append(errs, fmt.Errorf("%s: test: %w", name, err))
	}
	for line := range strings.Lines(m.diff) {
		file, ok := strings.CutPrefix(line, "+++ ")
		if ok && strings.HasSuffix(strings.TrimSpace(file), "_test.go") {
			errs = append(errs, fmt.Errorf("%s: changes the test file %s; a mutant changes what is tested", name, strings.TrimSpace(file)))
		}
	}
	m.flags = strings.Fields(flags)
	return m, errors.Join(errs...)
}
