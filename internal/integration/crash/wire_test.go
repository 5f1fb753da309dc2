package crash_test

import (
	"errors"
	"io"
	"net"
)

// proxy stands between a process and its database server. Each piece that the process sends is a
// boundary: the process dies before the server has it, or after, without the answer.
func proxy(server string, p *points) (addr string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client, server, p)
		}
	}()
	return listener.Addr().String(), nil
}

// forward ends when either side has gone.
func forward(client net.Conn, server string, p *points) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	go func() {
		defer client.Close()
		_, _ = io.Copy(client, upstream)
	}()
	piece := make([]byte, 64<<10)
	for {
		n, err := client.Read(piece)
		if n > 0 {
			err = errors.Join(err, p.around("a piece sent", func() error {
				_, err := upstream.Write(piece[:n])
				return err
			}))
		}
		if err != nil {
			return
		}
	}
}
