//go:build unix

package tenantpgx

import (
	"errors"
	"net"
	"syscall"
)

// socket looks at the socket of a connection. It is used by one goroutine at a time.
type socket struct {
	raw   syscall.RawConn // nil where there is nothing to look at
	peek  func(fd uintptr)
	quiet bool // what peek saw
}

func newSocket(c net.Conn) *socket {
	s := &socket{}
	s.peek = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		s.quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
	}
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = wrapped.NetConn() // of TLS: what it has read ahead, pgx has too
	}
	if file, ok := c.(syscall.Conn); ok {
		s.raw, _ = file.SyscallConn() // nil with an error
	}
	return s
}

// isQuiet reports whether nothing waits to be read: no farewell of the server, no end of the stream.
// It does not block. The error says that the connection cannot be looked at.
func (s *socket) isQuiet() (bool, error) {
	if s.raw == nil {
		return false, errors.ErrUnsupported
	}
	s.quiet = false
	// Control, not Read: pgx may still have a read of its own under way on this socket, and Read
	// would wait for it until the server says something.
	err := s.raw.Control(s.peek)
	return s.quiet, err
}
