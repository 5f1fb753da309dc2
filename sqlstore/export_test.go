package sqlstore

// CheckVersion is checkVersion, for tests.
var CheckVersion = checkVersion
