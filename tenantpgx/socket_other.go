//go:build !unix

package tenantpgx

import (
	"errors"
	"net"
)

// socketQuiet cannot look at a socket here.
func socketQuiet(net.Conn) (quiet bool, err error) { return false, errors.ErrUnsupported }
