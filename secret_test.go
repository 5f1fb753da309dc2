package tenancy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

const shopToken = "s3cr3t-t0ken-of-acme"

// stored returns the tenant's value as the store has it.
func stored(t testing.TB, tn *tenancy.Tenancy, tenantID, key string) json.RawMessage {
	t.Helper()
	return must[map[string]json.RawMessage](t)(tn.Config().ConfigStore.LoadConfig(t.Context(), tenantID))[key]
}

// store puts a value past the library into the store.
func store(t testing.TB, tn *tenancy.Tenancy, tenantID, key string, value json.RawMessage) {
	t.Helper()
	err := tn.Config().ConfigStore.SaveConfig(t.Context(), tenantID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
		return tenancy.ConfigWrite{Values: map[string]json.RawMessage{key: value}}, nil
	})
	if err == nil {
		err = tn.Changed(t.Context(), tenantID)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestASecretComesBackToItsKeyOnly(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var events []tenancy.Event
	tn, acme := newDeclared(t, func(c *tenancy.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Subscribers = []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
			events = append(events, e)
			return nil
		}}
	})
	o, ctx := tn.Overrides(), t.Context()
	if _, ok, err := apiToken.Of(ctx, o, acme.ID); ok || err != nil {
		t.Errorf("before it is set: %t, %v", ok, err)
	}
	if err := apiToken.Set(ctx, o, acme.ID, shopToken); err != nil {
		t.Fatal(err)
	}
	sealed := stored(t, tn, acme.ID, "api_token")
	if !strings.HasPrefix(string(sealed), `"tenancy-sealed:1:k1:`) {
		t.Errorf("%s is stored", sealed)
	}
	if err := apiToken.Set(ctx, o, acme.ID, shopToken); err != nil || !bytes.Equal(stored(t, tn, acme.ID, "api_token"), sealed) {
		t.Errorf("the same secret is stored anew, %v", err)
	}
	if err := o.Set(ctx, acme.ID, "api_token", shopToken+"2"); err != nil { // as a console does
		t.Fatal(err)
	}
	if bytes.Equal(stored(t, tn, acme.ID, "api_token"), sealed) {
		t.Error("another secret is not stored")
	}
	secret, ok, err := apiToken.Get(tenancy.UnsafeBind(ctx, acme, "test"), o)
	if !ok || err != nil || secret.Reveal() != shopToken+"2" {
		t.Errorf("%t, %v", ok, err)
	}
	if raw, ok, err := o.Get(ctx, acme.ID, "api_token"); raw != nil || ok || !isConfigError(err, "api_token", "NewSecretKey") {
		t.Errorf("Get: %s, %v", raw, err)
	}
	for raw, err := range o.Watch(ctx, acme.ID, "api_token") {
		if raw != nil || !isConfigError(err, "api_token", "NewSecretKey") {
			t.Errorf("Watch: %s, %v", raw, err)
		}
		break
	}
	all := must[map[string]json.RawMessage](t)(o.All(ctx, acme.ID))
	own := must[tenancy.OwnValues](t)(o.Own(ctx, acme.ID))
	explained := must[[]tenancy.LayerValue](t)(o.Explain(ctx, acme.ID, "api_token"))
	history := must[tenancy.HistoryPage](t)(o.History(ctx, acme.ID, tenancy.HistoryOptions{}))
	if string(all["api_token"]) != `"[secret]"` || string(own.Values["api_token"]) != `"[secret]"` || string(explained[0].Value) != `"[secret]"` {
		t.Errorf("%s, %s, %s", all, own.Values, explained)
	}
	if len(history.Records) != 2 || string(history.Records[0].Old) != `"[secret]"` || history.Records[1].Old != nil {
		t.Errorf("the history is %+v", history)
	}
	tn.Config().Logger.Info("all of it", "tenancy", fmt.Sprintf("%+v %#v", tn.Config(), tn.Config().SealingKeys), "secret", secret, "keys", tn.Config().SealingKeys)
	text := must[[]byte](t)(json.Marshal([]any{all, own, explained, history, events, secret, o.Keys()}))
	for name, shown := range map[string]string{"JSON": string(text), "the log": log.String()} {
		if strings.Contains(shown, shopToken) || strings.Contains(shown, "tenancy-sealed") || strings.Contains(shown, strings.Repeat("a", 32)) {
			t.Errorf("%s holds the secret or its key: %s", name, shown)
		}
	}
	if err := apiToken.Unset(ctx, o, acme.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := apiToken.Of(ctx, o, acme.ID); ok || err != nil {
		t.Errorf("after Unset: %t, %v", ok, err)
	}
}

func TestASecretPrintsAsNothing(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, nil)
	if err := apiToken.Set(t.Context(), tn.Overrides(), acme.ID, shopToken); err != nil {
		t.Fatal(err)
	}
	secret, _, err := apiToken.Of(t.Context(), tn.Overrides(), acme.ID)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		S tenancy.Secret[string]
		P *tenancy.Secret[string]
	}
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T"} {
		texts = append(texts, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, &secret), fmt.Sprintf(verb, holder{secret, &secret}))
	}
	key := sealingKey(t, "k9", 'Q')
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, key), fmt.Sprintf(verb, []tenancy.SealingKey{key}), fmt.Sprintf(verb, struct{ K *tenancy.SealingKey }{&key}))
	}
	texts = append(texts,
		string(must[[]byte](t)(json.Marshal(holder{secret, &secret}))), string(must[[]byte](t)(xml.Marshal(holder{secret, &secret}))),
		string(must[[]byte](t)(json.Marshal(key))))
	hidden := []string{shopToken, fmt.Sprintf("%x", shopToken), fmt.Sprintf("%X", shopToken), strings.Repeat("Q", 4), strings.Repeat("51", 4), strings.Repeat("81 ", 4)}
	for _, text := range texts {
		for _, h := range hidden {
			if strings.Contains(text, h) {
				t.Errorf("%s shows what is secret", text)
			}
		}
	}
	if s := (tenancy.Secret[string]{}); s.Reveal() != "" {
		t.Error("the zero secret reveals something")
	}
}

// A sealed value that is copied to another place must not open there: a tenant's shopToken would be used
// for another.
func TestASealedValueOpensWhereItWasSealedOnly(t *testing.T) {
	t.Parallel()
	second := tenancy.NewSecretKey[string]("second_token")
	tn, acme := newDeclared(t, func(c *tenancy.Config) { c.Keys = append(c.Keys, second) })
	o, ctx := tn.Overrides(), t.Context()
	other := must[tenancy.Tenant](t)(tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "other"}))
	if err := apiToken.Set(ctx, o, acme.ID, shopToken); err != nil {
		t.Fatal(err)
	}
	sealed := stored(t, tn, acme.ID, "api_token")
	store(t, tn, other.ID, "api_token", sealed)
	store(t, tn, acme.ID, "second_token", sealed)
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-8] ^= 3
	short := json.RawMessage(`"tenancy-sealed:1:k1:AAAA"`)
	for what, read := range map[string]func() error{
		"another tenant": func() error { _, _, err := apiToken.Of(ctx, o, other.ID); return err },
		"another key":    func() error { _, _, err := second.Of(ctx, o, acme.ID); return err },
		"a changed byte": func() error {
			store(t, tn, other.ID, "api_token", damaged)
			_, _, err := apiToken.Of(ctx, o, other.ID)
			return err
		},
		"a short one": func() error {
			store(t, tn, other.ID, "second_token", short)
			_, _, err := second.Of(ctx, o, other.ID)
			return err
		},
	} {
		if err := read(); err == nil || tenancy.CodeOf(err) != tenancy.CodeConfig || !strings.Contains(err.Error(), `"k1"`) || strings.Contains(err.Error(), shopToken) {
			t.Errorf("%s: %v; want an error that names the key", what, err)
		}
	}
}

func TestASecretInPlainIsRefused(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, nil)
	o, ctx := tn.Overrides(), t.Context()
	store(t, tn, acme.ID, "api_token", json.RawMessage(`"`+shopToken+`"`))
	_, ok, err := apiToken.Of(ctx, o, acme.ID)
	if ok || !isConfigError(err, "api_token", "in plain") || strings.Contains(err.Error(), shopToken) {
		t.Errorf("%t, %v", ok, err)
	}
	all := must[map[string]json.RawMessage](t)(o.All(ctx, acme.ID))
	if strings.Contains(string(all["api_token"]), shopToken) {
		t.Error("All shows it")
	}
	if err := apiToken.Set(ctx, o, acme.ID, shopToken); err != nil { // the remedy
		t.Fatal(err)
	}
	if _, ok, err := apiToken.Of(ctx, o, acme.ID); !ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	for _, record := range records(t, o, acme.ID) {
		if strings.Contains(record, shopToken) {
			t.Error("the history shows what it was")
		}
	}
}

func TestASecretNeedsAKeyAndADeclaration(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, func(c *tenancy.Config) { c.SealingKeys = nil })
	o, ctx := tn.Overrides(), t.Context()
	for _, err := range []error{apiToken.Set(ctx, o, acme.ID, shopToken), o.Set(ctx, acme.ID, "api_token", shopToken)} {
		if !isConfigError(err, "api_token", "Config.SealingKeys") || strings.Contains(err.Error(), shopToken) {
			t.Errorf("without a sealing key: %v", err)
		}
	}
	undeclared, acme := newDeclared(t, func(c *tenancy.Config) { c.Keys = nil })
	if err := apiToken.Set(ctx, undeclared.Overrides(), acme.ID, shopToken); !isConfigError(err, "api_token", "Config.Keys") {
		t.Errorf("without a declaration: %v", err)
	}
	if stored(t, tn, acme.ID, "api_token") != nil || stored(t, undeclared, acme.ID, "api_token") != nil {
		t.Error("something is stored")
	}
}

func TestRefusedSecretsAreNotQuoted(t *testing.T) {
	t.Parallel()
	number := tenancy.NewSecretKey[int]("pin")
	tn, acme := newDeclared(t, func(c *tenancy.Config) { c.Keys = append(c.Keys, number) })
	o, ctx := tn.Overrides(), t.Context()
	if err := apiToken.Set(ctx, o, acme.ID, shopToken); err != nil {
		t.Fatal(err)
	}
	secret, _, err := apiToken.Of(ctx, o, acme.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Set(ctx, acme.ID, "theme", secret); !isConfigError(err, "theme", "reveals") {
		t.Errorf("a Secret as a value: %v", err)
	}
	for key, value := range map[string]any{
		"api_token": "g3h31m", "pin": "g3h31m", "theme": "tenancy-sealed:1:k1:g3h31m",
	} {
		err := o.Set(ctx, acme.ID, key, value)
		if tenancy.CodeOf(err) != tenancy.CodeConfig || strings.Contains(err.Error(), "g3h31m") {
			t.Errorf("%s: %v", key, err)
		}
	}
	err = o.Set(ctx, acme.ID, "api_token", leaky{})
	if tenancy.CodeOf(err) != tenancy.CodeConfig || strings.Contains(err.Error(), "g3h31m") {
		t.Errorf("an encoder's error: %v", err)
	}
}

type leaky struct{}

func (leaky) MarshalJSON() ([]byte, error) { return nil, errors.New("cannot encode g3h31m") }

// A process that does not declare a key must not put a plain value in the place of its secret.
func TestAPlainValueDoesNotReplaceASecret(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, nil)
	ctx := t.Context()
	if err := apiToken.Set(ctx, tn.Overrides(), acme.ID, shopToken); err != nil {
		t.Fatal(err)
	}
	console := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{Store: tn.Config().Store, Logger: slog.New(slog.DiscardHandler)}))
	o := console.Overrides()
	if err := o.Set(ctx, acme.ID, "api_token", "plain"); !isConfigError(err, "api_token", "NewSecretKey") {
		t.Errorf("Set: %v", err)
	}
	if all := must[map[string]json.RawMessage](t)(o.All(ctx, acme.ID)); string(all["api_token"]) != `"[secret]"` {
		t.Errorf("All: %s", all)
	}
	if err := o.Unset(ctx, acme.ID, "api_token"); err != nil {
		t.Fatal(err)
	}
	if got := records(t, o, acme.ID); got[0] != `: api_token "[secret]"-` {
		t.Errorf("the history is %q", got)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, nil)
	ctx := t.Context()
	with := func(keys ...tenancy.SealingKey) *tenancy.Overrides {
		t.Helper()
		return must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{
			Store: tn.Config().Store, Keys: []tenancy.AnyKey{apiToken, seats}, SealingKeys: keys, Logger: slog.New(slog.DiscardHandler),
		})).Overrides()
	}
	k1, k2, other1 := sealingKey(t, "k1", 'a'), sealingKey(t, "k2", 'b'), sealingKey(t, "k1", 'c')
	if err := errors.Join(apiToken.Set(ctx, tn.Overrides(), acme.ID, shopToken), seats.Set(ctx, tn.Overrides(), acme.ID, 9)); err != nil {
		t.Fatal(err)
	}
	reads := func(o *tenancy.Overrides, wrong string) {
		t.Helper()
		secret, ok, err := apiToken.Of(ctx, o, acme.ID)
		if wrong == "" && (!ok || err != nil || secret.Reveal() != shopToken) {
			t.Errorf("%t, %v", ok, err)
		}
		if wrong != "" && (ok || !isConfigError(err, "api_token", wrong)) {
			t.Errorf("%t, %v; want an error that says %s", ok, err, wrong)
		}
	}
	reads(with(k2, k1), "")
	reads(with(k2), `sealed with the key "k1"`)
	reads(with(other1), `does not open with the key "k1"`)
	if n, err := with(k2).Reseal(ctx, acme.ID); n != 0 || err == nil || !strings.Contains(err.Error(), `"k1"`) {
		t.Errorf("without the old key: %d, %v", n, err)
	}
	if n, err := with().Reseal(ctx, acme.ID); n != 0 || err == nil {
		t.Errorf("without any key: %d, %v", n, err)
	}
	before := records(t, tn.Overrides(), acme.ID)
	for _, want := range []int{1, 0} {
		if n, err := with(k2, k1).Reseal(ctx, acme.ID); n != want || err != nil {
			t.Errorf("%d secrets are sealed anew, %v; want %d", n, err, want)
		}
	}
	reads(with(k2), "")
	reads(with(k1), `sealed with the key "k2"`)
	if after := records(t, tn.Overrides(), acme.ID); len(after) != len(before) {
		t.Errorf("the history is %q", after)
	}
	if n, err := seats.Of(ctx, with(k2), acme.ID); n != 9 || err != nil {
		t.Errorf("a plain value: %d, %v", n, err)
	}
}

func TestNewSealingKeyRefusesWhatIsNoKey(t *testing.T) {
	t.Parallel()
	good := []byte(strings.Repeat("k", 32))
	for id, key := range map[string][]byte{
		"": good, "a b": good, "a:b": good, strings.Repeat("x", 65): good, "short": good[:31], "long": append(good, 'k'), "zero": make([]byte, 32), "none": nil,
	} {
		if _, err := tenancy.NewSealingKey(id, key); err == nil || strings.Contains(err.Error(), "kkkk") {
			t.Errorf("%q: %v", id, err)
		}
	}
}
