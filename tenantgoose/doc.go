// Package tenantgoose brings the tenants' own tables to their version with goose migrations: one
// set of SQL files for all tenants of an engine. It answers which version a tenant's database is
// at; where that database is, isolation knows.
package tenantgoose
