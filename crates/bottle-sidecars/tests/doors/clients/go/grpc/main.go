// gRPC in Go: all four kinds of call, and one that fails. Argument: the server's host and port.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Messages are bytes, as no description of them is wanted here.
type raw struct{}

func (raw) Marshal(value any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(value.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, value any) error {
	*value.(*[]byte) = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" }

var _ encoding.CodecV2 = raw{}

func told(err error, trailer metadata.MD) {
	names := []string{}
	for name := range trailer {
		// Of an answer that is nothing but its head, a proxy may say the length and the time.
		if name != "content-length" && name != "date" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	fmt.Print(status.Code(err), " ", status.Convert(err).Message())
	for _, name := range names {
		fmt.Printf(" %s=%q", name, trailer[name])
	}
	fmt.Println()
}

func main() {
	trust := credentials.NewTLS(&tls.Config{})
	line, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(trust),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		panic(err)
	}
	ctx, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()

	var answer []byte
	trailer := metadata.MD{}
	err = line.Invoke(ctx, "/open.Echo/Unary", []byte("a message"), &answer, grpc.Trailer(&trailer))
	fmt.Printf("unary %q\n", answer)
	told(err, trailer)

	stream := func(method string, messages ...[]byte) grpc.ClientStream {
		call, err := line.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			fmt.Println(method, status.Code(err))
			os.Exit(1)
		}
		for _, message := range messages {
			if err := call.SendMsg(message); err != nil {
				fmt.Println(method, "not sent", status.Code(err))
			}
		}
		return call
	}
	rest := func(name string, call grpc.ClientStream) {
		call.CloseSend()
		for {
			var answer []byte
			if err := call.RecvMsg(&answer); err != nil {
				if err == io.EOF {
					err = nil
				}
				told(err, call.Trailer())
				return
			}
			fmt.Println(name, len(answer))
		}
	}
	rest("server stream", stream("/open.Echo/ServerStream", []byte("a message")))
	rest("client stream", stream("/open.Echo/ClientStream", []byte("a"), nil, bytes.Repeat([]byte("b"), 100000)))
	// Each message waits for its answer.
	both := stream("/open.Echo/Both")
	for _, message := range [][]byte{[]byte("first"), []byte("second"), bytes.Repeat([]byte("x"), 100000), nil} {
		if err := both.SendMsg(message); err != nil {
			fmt.Println("not sent", status.Code(err))
		}
		var answer []byte
		err := both.RecvMsg(&answer)
		fmt.Println("both", len(answer), status.Code(err))
	}
	rest("both", both)
	trailer = metadata.MD{}
	told(line.Invoke(ctx, "/open.Echo/Fail", []byte(nil), &answer, grpc.Trailer(&trailer)), trailer)
	// A call that is given up in its midst, and another over the same connection.
	given, give := context.WithCancel(ctx)
	call, err := line.NewStream(given, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/open.Echo/Both")
	if err == nil {
		call.SendMsg([]byte("first"))
		call.RecvMsg(&answer)
		give()
		err = call.RecvMsg(&answer)
	}
	told(err, nil)
	err = line.Invoke(ctx, "/open.Echo/Unary", []byte("again"), &answer)
	fmt.Printf("unary %q\n", answer)
	told(err, nil)
}
