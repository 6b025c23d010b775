package main

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestCountsWhatComes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(conn, "to be or\nnot to be\n")
			conn.Close()
		}
		sent <- err
	}()
	var stdout, stderr strings.Builder
	if code := run(t.Context(), []string{"--parallelism", "3", l.Addr().String()}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	slices.Sort(got)
	want := []string{"be\t1", "be\t2", "not\t1", "or\t1", "to\t1", "to\t2"}
	if !slices.Equal(got, want) {
		t.Errorf("printed %q, want %q", got, want)
	}
	if !strings.Contains(stderr.String(), "cannot be replayed") {
		t.Errorf("stderr does not say that the input cannot be replayed: %s", stderr.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"nowhere"}, {"a:1", "b:2"}, {"--interval", "0s", "a:1"}, {"--parallelism", "0", "a:1"}, {"--unknown"},
	} {
		var stderr strings.Builder
		if code := run(t.Context(), args, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, stderr.String())
		}
	}
}

func TestRefusedAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var stderr strings.Builder
	if code := run(t.Context(), []string{address}, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), address) {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}
