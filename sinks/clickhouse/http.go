package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// httpServer posts blocks to the HTTP interface. clickhouse-go could, but cuts the
// SELECT off an INSERT … SELECT.
type httpServer struct {
	options *clickhouse.Options
	client  *http.Client
	invalid error
	turn    int // of the addresses
}

func newHTTPServer(o *clickhouse.Options) *httpServer {
	s := &httpServer{options: o}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLS, MaxIdleConnsPerHost: 1, TLSHandshakeTimeout: o.DialTimeout,
		DialContext: (&net.Dialer{Timeout: o.DialTimeout}).DialContext,
	}
	if o.HTTPProxyURL != nil {
		t.Proxy = http.ProxyURL(o.HTTPProxyURL)
	}
	if o.DialContext != nil {
		t.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return o.DialContext(ctx, addr) }
	}
	s.client = &http.Client{Transport: t}
	if o.TransportFunc != nil {
		var rt http.RoundTripper
		if rt, s.invalid = o.TransportFunc(t); s.invalid == nil {
			s.client.Transport = rt
		}
	}
	return s
}

func (s *httpServer) close() { s.client.CloseIdleConnections() }

func (s *httpServer) insert(ctx context.Context, in insertion, b *block) error {
	if s.invalid != nil {
		return s.invalid
	}
	addr := s.options.Addr[s.turn%len(s.options.Addr)]
	req, err := s.request(ctx, addr, in, b)
	if err != nil {
		return err
	}
	err = s.do(req)
	if err != nil && exceptionOf(err) == nil {
		s.turn++
		s.client.CloseIdleConnections()
		return fmt.Errorf("insert at %s: %w", addr, err)
	}
	return err
}

func (s *httpServer) request(ctx context.Context, addr string, in insertion, b *block) (*http.Request, error) {
	o := s.options
	u := url.URL{Scheme: "http", Host: addr, Path: "/" + strings.TrimPrefix(o.HttpUrlPath, "/")}
	if o.TLS != nil {
		u.Scheme = "https"
	}
	params := url.Values{}
	for name, value := range o.Settings {
		params.Set(name, settingText(value))
	}
	for name, value := range in.all() {
		params.Set(name, value)
	}
	params.Set("query", in.statement+" FORMAT Native")
	// Without it the status may be sent before the insert has failed.
	params.Set("wait_end_of_query", "1")
	if o.Auth.Database != "" {
		params.Set("database", o.Auth.Database)
	}
	body, size, err := s.body(b)
	if err != nil {
		return nil, err
	}
	if s.compresses() {
		params.Set("decompress", "1")
	}
	u.RawQuery = params.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	return req, s.identify(ctx, req)
}

// identify says who sends the request.
func (s *httpServer) identify(ctx context.Context, req *http.Request) error {
	o := s.options
	for name, value := range o.HttpHeaders {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "millrace")
	if o.GetJWT != nil {
		token, err := o.GetJWT(ctx)
		req.Header.Set("Authorization", "Bearer "+token)
		return err
	}
	req.Header.Set("X-ClickHouse-User", o.Auth.Username)
	if o.Auth.Password != "" {
		req.Header.Set("X-ClickHouse-Key", o.Auth.Password)
	}
	return nil
}

// compresses says whether blocks go out in the server's own compressed format. What
// else HTTP could be compressed with is slower.
func (s *httpServer) compresses() bool {
	return s.options.Compression != nil && s.options.Compression.Method != clickhouse.CompressionNone
}

// body returns the block to be sent, and how long it is.
func (s *httpServer) body(b *block) (io.Reader, int64, error) {
	var readers []io.Reader
	size := int64(0)
	add := func(piece []byte) {
		readers = append(readers, bytes.NewReader(piece))
		size += int64(len(piece))
	}
	if !s.compresses() {
		for _, piece := range b.native() {
			add(piece)
		}
		return io.MultiReader(readers...), size, nil
	}
	method := compress.LZ4
	if s.options.Compression.Method == clickhouse.CompressionZSTD {
		method = compress.ZSTD
	}
	w := compress.NewWriter(0, method)
	for _, piece := range b.native() {
		for len(piece) > 0 {
			n := min(len(piece), pieceBytes)
			if err := w.Compress(piece[:n]); err != nil {
				return nil, 0, err
			}
			add(bytes.Clone(w.Data))
			piece = piece[n:]
		}
	}
	return io.MultiReader(readers...), size, nil
}

// do sends the request and reads the answer.
func (s *httpServer) do(req *http.Request) error {
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if code, ok := exceptionCode(res.Header, text); ok {
		message := strings.TrimSpace(string(text))
		message = strings.TrimPrefix(message, fmt.Sprintf("Code: %d. ", code))
		return &exception{chproto.Error(code), fmt.Sprintf("code %d: %s", code, message)}
	}
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return &statusError{res.StatusCode, strings.TrimSpace(string(text))}
	}
	return nil
}

// exceptionCode finds the server's exception, which also a status of 200 may hide.
func exceptionCode(h http.Header, text []byte) (int, bool) {
	if code, err := strconv.Atoi(h.Get("X-ClickHouse-Exception-Code")); err == nil {
		return code, true
	}
	if _, after, ok := bytes.Cut(text, []byte("Code: ")); ok {
		digits, _, _ := bytes.Cut(after, []byte("."))
		if code, err := strconv.Atoi(string(digits)); err == nil {
			return code, true
		}
	}
	return 0, false
}
