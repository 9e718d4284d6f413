// Command cri calls a method of the container runtime interface: cri SOCKET METHOD. The request comes on stdin and the answer goes to stdout, both
// as JSON, with the keys that the interface's messages have.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	_ "k8s.io/cri-api/pkg/apis/runtime/v1" // the messages
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cri SOCKET METHOD <request.json")
		os.Exit(2)
	}
	if err := call(os.Args[1], protoreflect.Name(os.Args[2])); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func call(socket string, name protoreflect.Name) error {
	method, err := find(name)
	if err != nil {
		return err
	}
	request, err := message(method.Input())
	if err != nil {
		return err
	}
	answer, err := message(method.Output())
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(raw, request); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := conn.Invoke(ctx, fmt.Sprintf("/%s/%s", method.Parent().FullName(), name), request, answer); err != nil {
		return err
	}
	out, err := protojson.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}

// find looks the method up in both of the interface's services.
func find(name protoreflect.Name) (protoreflect.MethodDescriptor, error) {
	for _, service := range []protoreflect.FullName{"runtime.v1.RuntimeService", "runtime.v1.ImageService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(service.Append(name))
		if err == nil {
			return d.(protoreflect.MethodDescriptor), nil
		}
	}
	return nil, fmt.Errorf("no method %s", name)
}

func message(d protoreflect.MessageDescriptor) (protoreflect.ProtoMessage, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	return t.New().Interface(), nil
}
