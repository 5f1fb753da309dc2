//go:build unix

package tenantpgx

import (
	"errors"
	"net"
	"syscall"
)

// socketQuiet reports whether nothing waits to be read on a socket: no farewell of the server, no
// end of the stream. It does not block. The error says that the connection cannot be looked at,
// as one with TLS cannot.
func socketQuiet(c net.Conn) (quiet bool, err error) {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = wrapped.NetConn() // of TLS: what it has read ahead, pgx has too
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return false, errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false, err
	}
	// Control, not Read: pgx may still have a read of its own under way on this socket, and Read
	// would wait for it until the server says something.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, peek := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(peek, syscall.EAGAIN) || errors.Is(peek, syscall.EWOULDBLOCK)
	})
	return quiet, err
}
