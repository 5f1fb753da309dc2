// Package tenantconfig answers how an application is configured: it reads the plain values of
// a [tenancy.Config] from application.yaml, its profile and the environment.
//
//	cfg, err := tenantconfig.Load(tenantconfig.Options{})
//	if err != nil {
//		log.Fatal(err) // every problem at once, each with its file and line or its variable
//	}
//	cfg.Store = store
//	tn, err := tenancy.New(cfg)
//
// A key is taken from the first of: the variable LEX_TENANCY__…, application.{LEX_PROFILE}.yaml,
// application.yaml, the default. It is taken whole: a list or a map of a higher layer replaces
// the lower one. Files are read below the top-level key tenancy; everything else in them is
// the application's own. Values in files may contain ${VAR} and ${VAR:default}. [Keys] lists
// the keys, docs/CONFIGURATION.md explains them.
//
// It does not check what only [tenancy.New] can know, such as whether a store is there or
// whether two keys agree, and does not watch files for changes.
package tenantconfig
