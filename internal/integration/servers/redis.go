package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a running throwaway Redis. Its only user is "default" with a random password. It
// keeps nothing over Restart and Kill. All methods can be called concurrently.
type RedisServer struct {
	daemon
	program  string
	port     int
	password string
}

var commonRedis common[*RedisServer]

// Redis returns the server that all tests of this process share, and starts it for the first one. A
// test that stops or kills its server uses NewRedis. Channels and keys are common to all tests: give
// a test's names of their own.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	program := redisProgram(t)
	return commonRedis.get(t, "Redis", func() (*RedisServer, error) { return newRedis(program) })
}

// NewRedis starts a server that lives until the end of the test.
func NewRedis(t testing.TB) *RedisServer {
	t.Helper()
	s, err := newRedis(redisProgram(t))
	if err != nil {
		t.Fatalf("start Redis: %v", err)
	}
	s.endWith(t, "Redis")
	return s
}

func redisProgram(t testing.TB) string {
	t.Helper()
	program, ok := find("redis-server")
	if !ok {
		missing(t, "Redis", "redis-server")
	}
	return program
}

func newRedis(program string) (_ *RedisServer, err error) {
	p, err := newProcess("redis", "TERM")
	if err != nil {
		return nil, err
	}
	register(p)
	defer func() {
		if err != nil {
			err = errors.Join(err, closeRegistered(p))
		}
	}()
	s := &RedisServer{program: program, password: secret()}
	s.daemon = daemon{process: p, run: s.start, quit: syscall.SIGTERM}
	// Between the choice of a port and its use another process can take it.
	for try := 0; ; try++ {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		// The watchdog knows the process by its arguments, so that it must not change them.
		if err := p.write("redis.conf", fmt.Sprintf(
			"bind 127.0.0.1\nport %d\nrequirepass %s\ndir %s\nsave \"\"\nappendonly no\ndaemonize no\nset-proc-title no\n", s.port, s.password, p.dir)); err != nil {
			return nil, err
		}
		err = s.Start()
		if err == nil || try == 4 || !strings.Contains(p.logTail(), "Address already in use") {
			return s, err
		}
	}
}

// Addr returns the host and port. It stays the same over Restart and Kill.
func (s *RedisServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// URL returns the connection string.
func (s *RedisServer) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("default", s.password), Host: s.Addr()}
	return u.String()
}

// start starts the server and returns when it answers.
func (s *RedisServer) start() error {
	if err := s.process.start(s.program, s.process.path("redis.conf")); err != nil {
		return err
	}
	if err := s.process.ready(s.ping); err != nil {
		return errors.Join(err, s.process.stop(syscall.SIGTERM))
	}
	return nil
}

func (s *RedisServer) ping() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := net.Dial("tcp", s.Addr()) // the client would log each attempt
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	options, err := redis.ParseURL(s.URL())
	if err != nil {
		return err
	}
	options.MaxRetries, options.DialerRetries = -1, 1
	client := redis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	return client.Ping(ctx).Err()
}
