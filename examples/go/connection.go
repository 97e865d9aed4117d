package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "videoprocess.example/enhance/gen/videoprocess/v1"
)

const (
	callTimeout = 30 * time.Second
	// Prepare reads the file before it answers.
	prepareTimeout = 300 * time.Second
	// Of one stream; a longer transfer or subscription goes on in the next one.
	streamTimeout   = 600 * time.Second
	maxMessageBytes = 16 << 20
)

// connection holds the stubs on one channel.
type connection struct {
	channel  *grpc.ClientConn
	service  pb.VideoProcessServiceClient
	session  pb.VideoProcessSessionServiceClient
	callback pb.VideoProcessCallbackServiceClient
	files    pb.FileTransferServiceClient
}

// open connects when the first call is made. The target is in gRPC's notation, e.g. 127.0.0.1:50051.
func open(target string) (*connection, error) {
	channel, err := grpc.NewClient(target,
		// For TLS: credentials.NewTLS; docs/access.md tells who gets in.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		// Finds a connection that died without a word under a subscription that may be silent for hours.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// Back soon after a restart of the service, however long it was away.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
		}, MinConnectTimeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	return &connection{
		channel:  channel,
		service:  pb.NewVideoProcessServiceClient(channel),
		session:  pb.NewVideoProcessSessionServiceClient(channel),
		callback: pb.NewVideoProcessCallbackServiceClient(channel),
		files:    pb.NewFileTransferServiceClient(channel),
	}, nil
}

// callOnce makes a call.
func callOnce[Request, Response any](
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request, timeout time.Duration,
) (*Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return method(ctx, request)
}

// call makes a call, again and again while the service is away. For calls that may be repeated.
func call[Request, Response any](
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request, timeout time.Duration,
) (*Response, error) {
	var patience patience
	for {
		response, err := callOnce(method, request, timeout)
		if err == nil {
			return response, nil
		}
		if err := patience.wait(err); err != nil {
			return nil, err
		}
	}
}
