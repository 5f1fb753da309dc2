package tenantconfig

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"lexigram.dev/tenancy"
)

const (
	variablePrefix  = "LEX_TENANCY__"
	variableName    = "LEX_TENANCY"
	profileVariable = "LEX_PROFILE"
	topKey          = "tenancy"
	defaultFile     = "application.yaml"

	maxFileBytes = 1 << 20
	maxNodes     = 20_000 // visited below tenancy, aliases followed
	maxDepth     = 32
)

// Options say where the configuration is. The zero value means application.yaml in the
// working directory, if it exists, and the process's environment.
type Options struct {
	// Dir is the folder of application.yaml and its profiles. Defaults to the working
	// directory. A missing application.yaml is no error.
	Dir string
	// Files are read instead of Dir's application.yaml, later ones over earlier ones. Each
	// must exist.
	Files []string
	// Profile names the variants name.{profile}.yaml that are read directly over each file.
	// At least one must exist. Defaults to the variable LEX_PROFILE; empty means none.
	Profile string
	// Environ holds the variables as "name=value". Defaults to os.Environ(); empty but not
	// nil means none.
	Environ []string
	// Resolvers are the names of the application's own resolvers, allowed beside the
	// built-in ones.
	Resolvers []string
	// Strategies are the names of the application's own isolation strategies, likewise.
	Strategies []string
}

// Load reads the configuration. A value that is not set stays zero in the result, which
// [tenancy.New] takes as the default; a duration of 0 becomes negative, which switches the
// thing off. Without files and variables the result is the zero Config.
//
// The error joins all problems, sorted by file, line and variable; each is a
// [tenancy.ConfigError] whose Source is "application.yaml:12" or a variable's name. The
// result is the zero Config then.
func Load(opts Options) (tenancy.Config, error) {
	l := &loader{opts: opts, variables: map[string]string{}}
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	for _, assignment := range opts.Environ {
		name, text, _ := strings.Cut(assignment, "=")
		if _, ok := l.variables[name]; !ok { // as os.Getenv, the first of several counts
			l.variables[name] = text
		}
	}

	l.readFiles()
	l.readVariables()
	var cfg tenancy.Config
	for _, v := range l.values {
		v.entry.set(v, &cfg)
	}
	if err := l.err(); err != nil {
		return tenancy.Config{}, err
	}
	return cfg, nil
}

// loader collects the values and problems of one Load.
type loader struct {
	opts      Options
	variables map[string]string
	layer     int // of what is being read, counted from the weakest
	nodes     int // visited so far in this layer
	values    []*value
	problems  []problem
}

// problem is an error and its place in the report.
type problem struct {
	layer, line int
	err         *tenancy.ConfigError
}

func (l *loader) fail(layer int, source string, line int, key string, err error) {
	if line > 0 {
		source = fmt.Sprintf("%s:%d", source, line)
	}
	l.problems = append(l.problems, problem{layer, line, &tenancy.ConfigError{Key: key, Source: source, Err: err}})
}

func (l *loader) err() error {
	slices.SortStableFunc(l.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.line, b.line),
			cmp.Compare(a.err.Source, b.err.Source), cmp.Compare(a.err.Key, b.err.Key))
	})
	errs := make([]error, len(l.problems))
	for i, p := range l.problems {
		errs[i] = p.err
	}
	return errors.Join(errs...)
}

// readFiles reads the files in ascending order of strength.
func (l *loader) readFiles() {
	files, required := l.opts.Files, true
	if len(files) == 0 {
		files, required = []string{filepath.Join(l.opts.Dir, defaultFile)}, false
	}
	profile, source := l.opts.Profile, "Options.Profile"
	if profile == "" {
		profile, source = l.variables[profileVariable], profileVariable
	}
	if strings.Trim(profile, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		l.fail(0, source, 0, "profile", fmt.Errorf("%s is not one name: use letters, digits, - and _", quote(profile)))
		profile = ""
	}
	var variants []string
	found := false
	for _, path := range files {
		l.readFile(path, required)
		if profile == "" {
			continue
		}
		ext := filepath.Ext(path)
		variant := strings.TrimSuffix(path, ext) + "." + profile + ext
		variants = append(variants, variant)
		found = l.readFile(variant, false) || found
	}
	if profile != "" && !found {
		l.fail(0, source, 0, "profile", fmt.Errorf("%s has no file: create %s, which may be empty, or change the profile",
			quote(profile), strings.Join(variants, " or ")))
	}
}

// readFile reads one file as a layer of its own and reports whether it exists.
func (l *loader) readFile(path string, required bool) bool {
	l.layer++
	l.nodes = 0
	data, err := readLimited(path)
	if errors.Is(err, os.ErrNotExist) {
		if required {
			l.fail(l.layer, path, 0, topKey, errors.New("the file does not exist"))
		} else if other := strings.TrimSuffix(path, ".yaml") + ".yml"; other != path+".yml" && exists(other) {
			l.fail(l.layer, other, 0, topKey, fmt.Errorf("is not read: rename it to %s", path))
			return true
		}
		return false
	}
	if err != nil {
		l.fail(l.layer, path, 0, topKey, err)
		return true
	}
	if line, ok := invalidUTF8(data); ok {
		l.fail(l.layer, path, line, topKey, errors.New("the line is not UTF-8: save the file as UTF-8"))
		return true
	}
	l.readDocument(path, data)
	return true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readLimited(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a folder: name a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("the file is larger than %d bytes", maxFileBytes)
	}
	return data, err
}

// invalidUTF8 returns the first line that is not UTF-8, if there is one.
func invalidUTF8(data []byte) (line int, ok bool) {
	line = 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			return line, true
		}
		if r == '\n' {
			line++
		}
		data = data[size:]
	}
	return 0, false
}

// readDocument reads the only YAML document of a file.
func (l *loader) readDocument(path string, data []byte) {
	docs, err := yaml.NewLoader(strings.NewReader(string(data)))
	if err != nil {
		l.fail(l.layer, path, 0, topKey, err)
		return
	}
	var doc, second yaml.Node
	if err := docs.Load(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			l.failSyntax(path, err)
		}
		return
	}
	switch err := docs.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		l.failSyntax(path, err)
	default:
		l.fail(l.layer, path, second.Line, topKey, errors.New("a second YAML document begins here: a file must have one"))
	}
	if len(doc.Content) == 0 {
		return
	}
	root := doc.Content[0]
	if isNull(root) {
		return
	}
	if root.Kind != yaml.MappingNode {
		l.fail(l.layer, path, root.Line, topKey, errors.New("the file is not a map: write tenancy: and the keys below it"))
		return
	}
	seen := 0
	for name, node := range pairs(root) {
		switch {
		case name.Kind != yaml.ScalarNode:
		case name.Value == topKey:
			if seen++; seen > 1 {
				l.fail(l.layer, path, name.Line, topKey, errors.New("is set twice in this file"))
				continue
			}
			l.readSection(path, "", name.Line, node, 0)
		case strings.HasPrefix(strings.ToLower(name.Value), topKey+"."), looksLikeTop(name.Value):
			l.fail(l.layer, path, name.Line, printable(name.Value), errors.New("is not a key: did you mean tenancy: and its keys below?"))
		}
	}
}

// failSyntax reports that the file is not YAML.
func (l *loader) failSyntax(path string, err error) {
	if e, ok := errors.AsType[*yaml.LoadError](err); ok && e.Mark.Line > 0 {
		from := ""
		if e.ContextMark.Line > 0 && e.ContextMark.Line != e.Mark.Line {
			from = fmt.Sprintf(", for what begins in line %d", e.ContextMark.Line)
		}
		l.fail(l.layer, path, e.Mark.Line, topKey, fmt.Errorf("not valid YAML: %s%s", printable(e.Message), from))
		return
	}
	l.fail(l.layer, path, 0, topKey, fmt.Errorf("not valid YAML: %s", printable(err.Error())))
}

// readSection reads the keys of a map below tenancy; prefix is "" or ends with a dot.
func (l *loader) readSection(path, prefix string, line int, node *yaml.Node, depth int) {
	section := strings.TrimSuffix(topKey+"."+prefix, ".")
	node = follow(node)
	if isNull(node) || node.Kind == yaml.ScalarNode && node.Value == "" && node.Tag == "" {
		return
	}
	if node.Kind != yaml.MappingNode {
		l.fail(l.layer, path, line, section, errors.New("is a section: write its keys below it, indented"))
		return
	}
	seen := map[string]int{}
	for name, node := range pairs(node) {
		name = follow(name)
		if name.Kind != yaml.ScalarNode || name.ShortTag() != "!!str" {
			l.fail(l.layer, path, name.Line, section, errors.New("has a key that is not a name"))
			continue
		}
		key := prefix + name.Value
		if first, twice := seen[key]; twice {
			l.fail(l.layer, path, name.Line, key, fmt.Errorf("is set twice, first in line %d", first))
			continue
		}
		seen[key] = name.Line
		e, sub := lookup(key)
		switch {
		case e != nil:
			l.values = append(l.values, &value{
				loader: l, entry: e, layer: l.layer, source: path, line: valueLine(name, node), node: node,
			})
		case sub && depth == 0:
			l.readSection(path, key+".", name.Line, node, depth+1)
		default:
			l.fail(l.layer, path, name.Line, printable(key), unknown("key", suggestKey(key)))
		}
	}
}

// valueLine is where a value is: in its own line if it begins below its name.
func valueLine(name, node *yaml.Node) int {
	if node.Kind == yaml.ScalarNode && node.Line > name.Line {
		return node.Line
	}
	return name.Line
}

// readVariables reads every variable that has, or nearly has, our prefix.
func (l *loader) readVariables() {
	l.layer++
	l.nodes = 0
	names := make([]string, 0, len(l.variables))
	for name := range l.variables {
		if rest, ok := cutPrefixFold(name, variableName); ok && (rest == "" || rest[0] == '_') {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		e := lookupVariable(name)
		if e == nil {
			key, err := misnamed(name)
			l.fail(l.layer, printable(name), 0, key, err)
			continue
		}
		v := &value{
			loader: l, entry: e, layer: l.layer, source: name, loose: true, literal: true,
			node: &yaml.Node{Kind: yaml.ScalarNode, Value: l.variables[name]},
		}
		switch {
		case !utf8.ValidString(v.node.Value):
			v.fail("is not UTF-8")
		case v.node.Value == "" && e.Type != typeNullable:
			v.fail("is empty: unset the variable to get the default")
		default:
			l.values = append(l.values, v)
		}
	}
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}
