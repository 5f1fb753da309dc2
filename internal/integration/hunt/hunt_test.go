package hunt_test

import (
	"os"
	"testing"
	"time"

	"lexigram.dev/tenancy/isolationtest"
)

// duration is how long each cell is searched: the variable TENANCY_LEAKHUNT, or a few seconds.
func duration(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("TENANCY_LEAKHUNT")
	switch {
	case text != "":
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			t.Fatalf("TENANCY_LEAKHUNT is %q: write a duration such as 5m", text)
		}
		return d
	case testing.Short():
		return time.Second
	default:
		return 3 * time.Second
	}
}

func TestKnownLeaks(t *testing.T) {
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			isolationtest.Run(t, c.open(t))
		})
	}
}

func TestHunt(t *testing.T) {
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			isolationtest.Hunt(t, c.open(t), func(p *isolationtest.Plan) { p.Duration = duration(t) })
		})
	}
}
