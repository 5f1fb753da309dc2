package isolation_test

import (
	"testing"
)

func TestTwoTenantsSeeTheirOwn(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t)
		sees(t, c.acme, c.db, "of acme")
		sees(t, c.globex, c.db, "of globex")
		for _, server := range c.config.Servers {
			_ = server
		}
		must(t, c.db.Check(t.Context()))
	})
}
