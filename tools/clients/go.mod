// The clients of make e2e that Debian has no package of: cnitool, and a small one for the container runtime interface (folder cri). They are
// a module of their own, so that what they need stays out of cnibox's.
module github.com/cnibox/cnibox/tools/clients

go 1.26.0

tool github.com/containernetworking/cni/cnitool

require (
	google.golang.org/grpc v1.72.2
	google.golang.org/protobuf v1.36.5
	k8s.io/cri-api v0.34.4
)

require (
	github.com/containernetworking/cni v1.3.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/cobra v1.9.1 // indirect
	github.com/spf13/pflag v1.0.6 // indirect
	go.opentelemetry.io/otel v1.35.0 // indirect
	go.opentelemetry.io/otel/trace v1.35.0 // indirect
	golang.org/x/net v0.38.0 // indirect
	golang.org/x/sys v0.31.0 // indirect
	golang.org/x/text v0.23.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250303144028-a0af3efb3deb // indirect
)
