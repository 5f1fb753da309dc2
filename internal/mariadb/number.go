// Package mariadb answers which error of a MariaDB or MySQL server an error is, for packages that
// import no driver.
package mariadb

import (
	"errors"
	"reflect"
)

// Numbers of the server's errors.
const (
	DeniedToDatabase = 1044
	DeniedToUser     = 1045
	UnknownDatabase  = 1049
	LockWaitTimeout  = 1205 // the statement is undone, its transaction goes on
	Deadlock         = 1213 // the transaction is undone
	Raised           = 1644 // by SIGNAL, in a function or trigger
)

// Number returns the server's number of an error, 0 when it has none. It reads the exported field
// Number of the driver's error, such as *mysql.MySQLError of go-sql-driver.
func Number(err error) uint64 {
	for err != nil {
		if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().Kind() == reflect.Struct {
			if number := v.Elem().FieldByName("Number"); number.IsValid() && number.CanUint() {
				return number.Uint()
			}
		}
		if several, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range several.Unwrap() {
				if number := Number(one); number != 0 {
					return number
				}
			}
			return 0
		}
		err = errors.Unwrap(err)
	}
	return 0
}
