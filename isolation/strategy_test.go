package isolation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lexigram.dev/tenancy/isolation"
)

// island is a server of an application's own.
type island struct{ name string }

func (island) Engine() isolation.Engine { return "own" }

// ferry is a strategy for islands that can say whether its walls stand.
type ferry struct {
	isolation.Strategy
	name  string
	holes map[string]error
	asked *[]string
}

func (f ferry) Name() string { return f.name }

func (ferry) Supports(s isolation.Server) error {
	if i, ok := s.(island); !ok || i.name == "bare" {
		return fmt.Errorf("%w: no harbour", isolation.ErrUnsupported)
	}
	return nil
}

func (f ferry) Check(_ context.Context, s isolation.Server) error {
	*f.asked = append(*f.asked, f.name+" on "+s.(island).name)
	return f.holes[s.(island).name]
}

// shy is a strategy that cannot say.
type shy struct{ isolation.Strategy }

func (shy) Name() string                    { return "shy" }
func (shy) Supports(isolation.Server) error { return nil }

func TestCheckAsksTheStrategiesThatCanSay(t *testing.T) {
	t.Parallel()
	var asked []string
	leak := errors.New("the fence is open: shut it")
	registry, err := isolation.NewRegistry(shy{},
		ferry{name: "ferry", asked: &asked, holes: map[string]error{"second": leak}},
		ferry{name: "bridge", asked: &asked})
	must(t, err)
	db, err := isolation.Open(isolation.Config{
		Servers:  map[string]isolation.Server{"b": island{"second"}, "a": island{"first"}, "c": island{"bare"}},
		Server:   "a",
		Strategy: "ferry", Registry: registry,
	})
	must(t, err)
	defer db.Close()
	err = db.Check(t.Context())
	mustBe(t, err, leak)
	if want := `server "b": strategy "ferry": the fence is open`; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want that it begins with %q", err, want)
	}
	if got, want := strings.Join(asked, ", "), "bridge on first, ferry on first, bridge on second, ferry on second"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}
