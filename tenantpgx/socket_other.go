//go:build !unix

package tenantpgx

import (
	"errors"
	"net"
)

// socket cannot be looked at here.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) isQuiet() (bool, error) { return false, errors.ErrUnsupported }
