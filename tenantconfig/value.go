package tenantconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"lexigram.dev/tenancy"
)

const maxSeconds = 10 * 365 * 24 * 60 * 60

// value is what one layer says for one key, or an item of it.
type value struct {
	loader *loader
	entry  *entry
	layer  int
	source string // file or variable
	line   int    // 0 for a variable
	within string // the item's place in the key's value, such as .max_users
	node   *yaml.Node
	// loose is text whose type the key decides: a variable, or a value with ${…} expanded.
	loose bool
	// literal is text in which ${…} has no meaning, because it comes from a variable.
	literal bool
}

func (v *value) fail(format string, args ...any) {
	v.loader.fail(v.layer, v.source, v.line, v.entry.Name+v.within, fmt.Errorf(format, args...))
}

func (v *value) item(node *yaml.Node, within string) *value {
	child := *v
	child.node, child.loose = node, false
	child.within += within
	if v.line > 0 && node.Line > 0 {
		child.line = node.Line
	}
	return &child
}

// ready follows aliases and expands ${…}. It reports false when v cannot be used, and has
// said why.
func (v *value) ready() bool {
	if v.loader.nodes++; v.loader.nodes > maxNodes {
		if v.loader.nodes == maxNodes+1 {
			v.fail("the configuration has more than %d values, aliases followed", maxNodes)
		}
		return false
	}
	v.node = follow(v.node)
	if v.node.Kind != yaml.ScalarNode || v.literal || !strings.Contains(v.node.Value, "${") {
		return true
	}
	expanded, err := expand(v.node.Value, v.loader.variables, 0)
	if err != nil {
		v.fail("%w", err)
		return false
	}
	v.node = &yaml.Node{Kind: yaml.ScalarNode, Value: expanded, Style: v.node.Style}
	v.loose, v.literal = true, true
	return true
}

// kind names the type of v for an error.
func (v *value) kind() string {
	switch {
	case v.node.Kind == yaml.SequenceNode:
		return "a list"
	case v.node.Kind == yaml.MappingNode:
		return "a map"
	case v.loose:
		return quote(v.node.Value)
	case isNull(v.node):
		return "null"
	default:
		return quote(v.node.Value)
	}
}

// is reports whether v is a scalar that may be read as one of the YAML tags.
func (v *value) is(tags ...string) bool {
	return v.node.Kind == yaml.ScalarNode && (v.loose || slices.Contains(tags, v.node.ShortTag()))
}

// boolean sets a field from a boolean.
func boolean(field func(*tenancy.Config) *bool) func(*value, *tenancy.Config) {
	return func(v *value, cfg *tenancy.Config) {
		if b, ok := v.boolean(); ok {
			*field(cfg) = b
		}
	}
}

// inverted sets a field that is true when the key is false, so that its zero value is the
// key's default.
func inverted(field func(*tenancy.Config) *bool) func(*value, *tenancy.Config) {
	return func(v *value, cfg *tenancy.Config) {
		if b, ok := v.boolean(); ok {
			*field(cfg) = !b
		}
	}
}

func (v *value) boolean() (b, ok bool) {
	if !v.ready() {
		return false, false
	}
	if v.is("!!bool") {
		switch strings.ToLower(v.node.Value) {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	v.fail("%s is not a boolean: write true or false", v.kind())
	return false, false
}

// integer sets a field from a whole number of at least least.
func integer(field func(*tenancy.Config) *int, least int) func(*value, *tenancy.Config) {
	return func(v *value, cfg *tenancy.Config) {
		if !v.ready() {
			return
		}
		if v.is("!!int") && isDecimal(v.node.Value) {
			n, err := strconv.Atoi(v.node.Value)
			switch {
			case err != nil || n > math.MaxInt32:
				v.fail("%s is too large", v.kind())
			case n < least:
				v.fail("%d is too small: write at least %d", n, least)
			default:
				*field(cfg) = n
			}
			return
		}
		v.fail("%s is not a whole number: write digits only, without quotes", v.kind())
	}
}

// seconds sets a field from a number of seconds or a Go duration. Zero becomes negative,
// because a field of zero means the default.
func seconds(field func(*tenancy.Config) *time.Duration) func(*value, *tenancy.Config) {
	return func(v *value, cfg *tenancy.Config) {
		if !v.ready() {
			return
		}
		d, ok := parseSeconds(v.node.Value)
		switch {
		case !v.is("!!int", "!!float", "!!str") || !ok:
			v.fail("%s is not a duration: write seconds, such as 300, or a duration, such as 5m", v.kind())
		case d < 0:
			v.fail("%s is negative: write 0 to switch it off", v.kind())
		case d > maxSeconds*time.Second:
			v.fail("%s is more than ten years", v.kind())
		case d == 0:
			*field(cfg) = -1
		default:
			*field(cfg) = d
		}
	}
}

func parseSeconds(s string) (time.Duration, bool) {
	if strings.Trim(s, "0123456789.eE+-") == "" {
		f, err := strconv.ParseFloat(s, 64)
		switch {
		case err != nil && !errors.Is(err, strconv.ErrRange):
			return 0, false
		case f > 2*maxSeconds: // the caller says that it is too much
			return 2 * maxSeconds * time.Second, true
		case f > 0 && f < 1e-3:
			return 0, false
		case f < 0:
			return -1, true
		}
		return time.Duration(math.Round(f * float64(time.Second))), true
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && (d <= 0 || d >= time.Millisecond)
}

// text sets a field from text that check, if any, accepts.
func text[T ~string](field func(*tenancy.Config) *T, check func(string) error) func(*value, *tenancy.Config) {
	return func(v *value, cfg *tenancy.Config) {
		if !v.ready() {
			return
		}
		if v.entry.Type == typeNullable && v.node.Kind == yaml.ScalarNode &&
			(!v.loose && isNull(v.node) || v.node.Value == "" || v.loose && v.node.Value == "null") {
			*field(cfg) = ""
			return
		}
		s, ok := v.text()
		if !ok {
			return
		}
		if check != nil {
			if err := check(s); err != nil {
				v.fail("%w", err)
				return
			}
		}
		*field(cfg) = T(s)
	}
}

// text returns non-empty text. The caller has called ready.
func (v *value) text() (string, bool) {
	switch {
	case v.node.Kind == yaml.ScalarNode && !v.loose && isNull(v.node):
		v.fail("is null: write a text, or leave the key out")
	case !v.is("!!str"):
		v.fail("%s is not text: write it in quotes", v.kind())
	case strings.TrimSpace(v.node.Value) == "":
		v.fail("is empty: write a text, or leave the key out")
	default:
		return v.node.Value, true
	}
	return "", false
}

// list sets a field from a list of texts that every check accepts.
func list(field func(*tenancy.Config) *[]string, checks ...func(*value, []*value)) func(*value, *tenancy.Config) {
	return func(v *value, cfg *tenancy.Config) {
		if !v.ready() || !v.structured(yaml.SequenceNode, `a list such as ["header"]`) {
			return
		}
		var items []*value
		texts := []string{}
		for _, n := range v.node.Content {
			item := v.item(n, "")
			if !item.ready() {
				continue
			}
			if s, ok := item.text(); ok {
				items, texts = append(items, item), append(texts, s)
			}
		}
		for _, check := range checks {
			check(v, items)
		}
		*field(cfg) = texts
	}
}

func notEmpty(v *value, _ []*value) {
	if len(v.node.Content) == 0 {
		v.fail("is an empty list: leave the key out to get the default")
	}
}

func distinct(_ *value, items []*value) {
	seen := map[string]bool{}
	for _, item := range items {
		if seen[item.node.Value] {
			item.fail("%s is listed twice", item.kind())
		}
		seen[item.node.Value] = true
	}
}

func knownResolver(v *value, items []*value) {
	names := append([]string{
		tenancy.ResolverJWTClaim, tenancy.ResolverHeader, tenancy.ResolverSubdomain,
		tenancy.ResolverPath, tenancy.ResolverStatic,
	}, v.loader.opts.Resolvers...)
	each(oneOf(names...))(v, items)
}

func each(check func(string) error) func(*value, []*value) {
	return func(_ *value, items []*value) {
		for _, item := range items {
			if err := check(item.node.Value); err != nil {
				item.fail("%w", err)
			}
		}
	}
}

func oneOf(names ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(names, s) {
			return nil
		}
		if guess := closest(s, names); guess != "" {
			return fmt.Errorf("%s is not known: did you mean %s?", quote(s), guess)
		}
		return fmt.Errorf("%s is not known: use %s", quote(s), strings.Join(names, ", "))
	}
}

func issuerTenants(v *value, cfg *tenancy.Config) {
	if !v.ready() || !v.structured(yaml.MappingNode, "a map from issuer to tenant") {
		return
	}
	m := map[string]string{}
	v.fields(func(issuer string, item *value) {
		if !item.ready() {
			return
		}
		tenant, ok := item.text()
		if !ok {
			return
		}
		if tenancy.ByIDOrSlug(tenant).Kind() == tenancy.RefMalformed {
			item.fail("%s is no id or slug of a tenant", quote(tenant))
		}
		m[issuer] = tenant
	})
	cfg.Resolution.IssuerTenants = m
}

func plans(v *value, cfg *tenancy.Config) {
	if !v.ready() || !v.structured(yaml.MappingNode, `a map such as {"gold": {"max_users": 50}}`) {
		return
	}
	m := map[string]map[string]any{}
	v.fields(func(plan string, item *value) {
		if values, ok := item.anyMap(); ok {
			m[plan] = values
		}
	})
	cfg.Overrides.Plans = m
}

// anyMap returns a map of values as JSON knows them; whole numbers are int64.
func (v *value) anyMap() (map[string]any, bool) {
	if !v.ready() || !v.structured(yaml.MappingNode, `a map such as {"max_users": 50}`) {
		return nil, false
	}
	m := map[string]any{}
	v.fields(func(name string, item *value) {
		if m[name] = item.any(0); m[name] == nil && item.ready() && !item.loose && isNull(item.node) {
			item.fail("is null, which is no value: leave it out")
		}
	})
	return m, true
}

// any returns v as JSON knows it.
func (v *value) any(depth int) any {
	if !v.ready() {
		return nil
	}
	if depth > maxDepth {
		v.fail("is nested too deeply")
		return nil
	}
	switch v.node.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		v.fields(func(name string, item *value) { m[name] = item.any(depth + 1) })
		return m
	case yaml.SequenceNode:
		items := make([]any, len(v.node.Content))
		for i, n := range v.node.Content {
			items[i] = v.item(n, "").any(depth + 1)
		}
		return items
	}
	tag := v.node.ShortTag()
	if v.loose {
		tag = "!!str"
		if isPlain(v.node) {
			tag = plainTag(v.node.Value)
		}
	}
	switch tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(v.node.Value, "true")
	case "!!int":
		if n, err := strconv.ParseInt(v.node.Value, 10, 64); err == nil && isDecimal(v.node.Value) {
			return n
		}
		v.fail("%s is not a number that JSON can carry: write it in decimal digits", v.kind())
	case "!!float":
		if f, err := strconv.ParseFloat(v.node.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
		v.fail("%s is not a number that JSON can carry", v.kind())
	case "!!str", "!!timestamp":
		return v.node.Value
	default:
		v.fail("has the YAML tag %s: write a plain value", printable(tag))
	}
	return nil
}

// plainTag is the type that YAML gives to text without quotes.
func plainTag(s string) string {
	switch s {
	case "true", "false":
		return "!!bool"
	case "null":
		return "!!null"
	}
	if isDecimal(s) {
		return "!!int"
	}
	if json.Valid([]byte(s)) && s[0] != '"' && s[0] != '[' && s[0] != '{' {
		return "!!float"
	}
	return "!!str"
}

// fields calls f for each field of a map.
func (v *value) fields(f func(name string, item *value)) {
	seen := map[string]bool{}
	for name, node := range pairs(v.node) {
		name = follow(name)
		at := v.item(name, "")
		switch {
		case name.Kind != yaml.ScalarNode || name.ShortTag() == "!!null":
			at.fail("has a key that is not text")
		case name.ShortTag() == "!!merge":
			at.fail("merge keys (<<) are not supported here: write the values out")
		case name.Value == "":
			at.fail("has an empty key")
		case seen[name.Value]:
			at.fail("sets %s twice", quote(name.Value))
		default:
			seen[name.Value] = true
			f(name.Value, v.item(node, "."+printable(name.Value)))
		}
	}
}

// structured makes v a list or a map: loose text must be one in JSON.
func (v *value) structured(kind yaml.Kind, example string) bool {
	if v.node.Kind == yaml.ScalarNode && v.loose {
		node, err := parseJSON(v.node.Value)
		if err != nil {
			hint := ""
			if v.line == 0 && strings.ContainsAny(v.node.Value, "[{") {
				hint = ", and put it in single quotes for the shell"
			}
			v.fail("%s is not JSON: write %s%s", v.kind(), example, hint)
			return false
		}
		v.node, v.loose = node, false
	}
	if v.node.Kind != kind {
		v.fail("%s does not fit: write %s", v.kind(), example)
		return false
	}
	return true
}

// parseJSON returns one JSON value as the YAML nodes that mean the same.
func parseJSON(s string) (*yaml.Node, error) {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	node, err := parseJSONValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return node, nil
}

func parseJSONValue(dec *json.Decoder, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle}
	switch token := token.(type) {
	case json.Delim:
		node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		if token == '{' {
			node.Kind, node.Tag = yaml.MappingNode, "!!map"
		}
		for dec.More() { // a name in an object is a value like any other: dec checks the order
			child, err := parseJSONValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, child)
		}
		_, err := dec.Token()
		return node, err
	case string:
		node.Tag, node.Value = "!!str", token
	case json.Number:
		node.Tag, node.Value = "!!float", token.String()
		if isDecimal(node.Value) {
			node.Tag = "!!int"
		}
	case bool:
		node.Tag, node.Value = "!!bool", strconv.FormatBool(token)
	default:
		node.Tag, node.Value = "!!null", "null"
	}
	return node, nil
}

// isDecimal reports whether s is a whole number that everybody reads as the same: no leading
// zero, which is octal in YAML 1.1, and no underscore.
func isDecimal(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 1 && digits[0] == '0' {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func isPlain(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// pairs yields the keys and values of a mapping node.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// chainError reports why the resolver named in cfg cannot be made.
func chainError(cfg tenancy.ResolutionConfig) error {
	_, err := tenancy.NewChain(cfg)
	return unwrapConfig(err)
}

// unwrapConfig returns what is wrong without the key, which the caller knows better.
func unwrapConfig(err error) error {
	if invalid, ok := errors.AsType[*tenancy.InvalidError](err); ok {
		return fmt.Errorf("%s is not valid: %s", quote(invalid.Value), invalid.Remedy)
	}
	if e, ok := errors.AsType[*tenancy.ConfigError](err); ok {
		return e.Err
	}
	return err
}

// quote returns s for an error message: quoted, and cut when it is long.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}

// printable returns s unless it holds something that does not belong in a message.
func printable(s string) string {
	q := quote(s)
	if inner := q[1 : len(q)-1]; bytes.Equal([]byte(inner), []byte(s)) {
		return s
	}
	return q
}
