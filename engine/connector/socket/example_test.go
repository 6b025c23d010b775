package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/socket"
)

// The engine drives a source as this does.
func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			fmt.Fprint(conn, "to be\nor not\n")
			conn.Close()
		}
	}()

	ctx := context.Background()
	source, err := socket.New(listener.Addr().String(), socket.Options{})
	if err != nil {
		log.Fatal(err)
	}
	splits, err := source.Splits(ctx)
	if err != nil {
		log.Fatal(err)
	}
	reader, err := source.Reader(engine.SourceContext{Parallelism: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	if err := reader.Restore(ctx, splits); err != nil {
		log.Fatal(err)
	}
	for !errors.Is(err, io.EOF) {
		if err = reader.Poll(ctx, func(line string) { fmt.Println(line) }); err != nil && !errors.Is(err, io.EOF) {
			log.Fatal(err)
		}
	}
	// Output:
	// to be
	// or not
}
