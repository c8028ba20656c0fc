package imclient_test

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"markread/imclient"
)

// BenchmarkMarkRead measures one successful call under a lease. "stub" is the client alone, without
// a network; "loopback" adds net/http and a TCP connection to a server that does as little as
// possible, and "parallel" makes 64 such calls at a time.
func BenchmarkMarkRead(b *testing.B) {
	b.Run("stub", func(b *testing.B) {
		c := offlineClient(b, withTransport(func(r *http.Request) (*http.Response, error) {
			response := &stubResponse{Response: http.Response{
				StatusCode: http.StatusOK, Header: benchHeader,
				ContentLength: int64(len(benchBody)),
			}}
			response.body.Reset(benchBody)
			response.Body = response
			return &response.Response, nil
		}))
		benchCalls(b, c)
	})
	b.Run("loopback", func(b *testing.B) { benchCalls(b, benchClient(b)) })
	b.Run("parallel", func(b *testing.B) {
		c := benchClient(b)
		ctx := imclient.WithLease(b.Context(), func() error { return nil })
		b.ReportAllocs()
		b.SetParallelism(32) // two cores
		b.ResetTimer()
		var n atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := c.MarkRead(ctx, benchRead(n.Add(1))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

const benchBody = `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`

var benchHeader = http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}

// stubResponse is a response and its body in one allocation.
type stubResponse struct {
	http.Response
	body strings.Reader
}

func (r *stubResponse) Read(p []byte) (int, error) { return r.body.Read(p) }
func (*stubResponse) Close() error                 { return nil }

func benchRead(n int64) imclient.Read {
	return imclient.Read{Report: "user-1234567", Peer: "user-7654321", Time: 1700000000 + n}
}

func benchCalls(b *testing.B, c *imclient.Client) {
	ctx := imclient.WithLease(b.Context(), func() error { return nil })
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		if err := c.MarkRead(ctx, benchRead(n)); err != nil {
			b.Fatal(err)
		}
	}
}

// benchClient returns a client of a server that does not parse requests: one is complete when its
// body's closing brace has arrived.
func benchClient(b *testing.B) *imclient.Client {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	response := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: " + benchHeader.Get("Date") +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(benchBody)) +
		"\r\nConnection: keep-alive\r\n\r\n" + benchBody)
	serve := func(conn net.Conn) {
		defer conn.Close()
		for buf, n := make([]byte, 4096), 0; ; {
			read, err := conn.Read(buf[n:])
			if n += read; err != nil {
				return
			}
			if bytes.HasSuffix(buf[:n], []byte("}")) {
				if _, err := conn.Write(response); err != nil {
					return
				}
				n = 0
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	c := client(b, options("http://"+listener.Addr().String()))
	b.Cleanup(func() {
		c.Close()
		listener.Close()
	})
	return c
}
