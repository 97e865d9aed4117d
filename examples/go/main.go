// Enhance sends a video through the service: upload, Prepare, streams, ProcessVideo, events, result.
//
//	enhance TARGET USER_ID SOURCE RESULT [MODE_SETTING]
//
// MODE_SETTING is a file with serialised camera metadata, as CommitStreams has it in the HDI. The connection or the
// service may break at any time: the program waits a minute for it and goes on where it stood.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"google.golang.org/grpc"

	pb "videoprocess.example/enhance/gen/videoprocess/v1"
)

// intents are the streams that OpenHarmony's framework makes of Prepare's answer. The source's own metadata needs none: the
// result keeps it.
var intents = map[pb.MediaStreamType]pb.StreamIntent{
	pb.MediaStreamType_MEDIA_STREAM_TYPE_VIDEO: pb.StreamIntent_STREAM_INTENT_VIDEO,
	pb.MediaStreamType_MEDIA_STREAM_TYPE_MAKER: pb.StreamIntent_STREAM_INTENT_CUSTOM,
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 && len(os.Args) != 6 {
		log.Print("usage: enhance TARGET USER_ID SOURCE RESULT [MODE_SETTING]")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		log.Fatalf("failed: %v", err)
	}
}

func run(arguments []string) error {
	userID, err := strconv.ParseInt(arguments[1], 10, 32)
	if err != nil {
		return err
	}
	var modeSetting []byte
	if len(arguments) > 4 {
		if modeSetting, err = os.ReadFile(arguments[4]); err != nil {
			return err
		}
	}
	c, err := open(arguments[0])
	if err != nil {
		return err
	}
	defer c.channel.Close()
	return enhance(c, int32(userID), arguments[2], arguments[3], modeSetting)
}

func enhance(c *connection, userID int32, source, destination string, modeSetting []byte) error {
	// With a request_id a call that is made again opens no second session, and starts no second job.
	opened, err := call(c.service.CreateVideoProcessSession,
		&pb.CreateVideoProcessSessionRequest{UserId: &userID, RequestId: randomUUID()}, callTimeout)
	if err != nil {
		return err
	}
	sessionID := opened.GetSessionId()
	uploadID, err := upload(c, userID, source)
	if err != nil {
		return err
	}
	videoID := "go-" + uploadID
	streams, err := makeStreams(c, sessionID, videoID, uploadID, modeSetting)
	if err != nil {
		return err
	}
	accepted, err := call(c.session.ProcessVideo,
		&pb.ProcessVideoRequest{SessionId: sessionID, VideoId: videoID, RequestId: randomUUID()}, callTimeout)
	if err != nil {
		return err
	}
	report, err := follow(c, userID, accepted.GetJob().GetJobId(), accepted.GetEventSequence())
	if err != nil {
		return err
	}
	release := &pb.ReleaseStreamsRequest{SessionId: sessionID, StreamInfos: streams}
	if _, err := call(c.session.ReleaseStreams, release, callTimeout); err != nil {
		return err
	}
	artifact, err := videoOf(report)
	if err != nil {
		return err
	}
	sha256, err := download(c, userID, artifact.GetArtifactId(), destination)
	if err != nil {
		return err
	}
	fmt.Printf("result %d bytes, sha256 %s\n", artifact.GetSizeBytes(), sha256)
	for _, lost := range report.GetNotKept() {
		fmt.Printf("not kept: %v: %s\n", lost.GetWhat(), lost.GetReason())
	}
	_, err = call(c.service.CloseVideoProcessSession,
		&pb.CloseVideoProcessSessionRequest{SessionId: sessionID}, callTimeout)
	return err
}

// makeStreams prepares the video, and creates and commits the streams that it is to have.
func makeStreams(
	c *connection, sessionID, videoID, uploadID string, modeSetting []byte,
) ([]*pb.StreamInfoV11, error) {
	file := &pb.FileDescriptor{Source: &pb.FileDescriptor_UploadId{UploadId: uploadID}}
	prepared, err := call(c.session.Prepare, &pb.PrepareRequest{
		SessionId: sessionID, VideoId: videoID, Fds: []*pb.FileDescriptor{file},
	}, prepareTimeout)
	if err != nil {
		return nil, err
	}
	streams := streamsFor(prepared.GetStreamDescs())
	// The answer of an earlier try may have been lost, and an id is refused the second time.
	create := func(
		ctx context.Context, request *pb.CreateStreamsRequest, options ...grpc.CallOption,
	) (*pb.CreateStreamsResponse, error) {
		release := &pb.ReleaseStreamsRequest{SessionId: sessionID, StreamInfos: streams}
		if _, err := c.session.ReleaseStreams(ctx, release, options...); err != nil {
			return nil, err
		}
		return c.session.CreateStreams(ctx, request, options...)
	}
	request := &pb.CreateStreamsRequest{SessionId: sessionID, StreamInfos: streams}
	if _, err := call(create, request, callTimeout); err != nil {
		return nil, err
	}
	_, err = call(c.session.CommitStreams, &pb.CommitStreamsRequest{
		SessionId: sessionID, ModeSetting: &pb.CommitStreamsRequest_Serialized{Serialized: modeSetting},
	}, callTimeout)
	return streams, err
}

// streamsFor says what is to be made of the tracks that Prepare found.
func streamsFor(descriptions []*pb.StreamDescription) []*pb.StreamInfoV11 {
	var streams []*pb.StreamInfoV11
	for _, description := range descriptions {
		intent, isWanted := intents[description.GetType()]
		if !isWanted {
			continue
		}
		streams = append(streams, &pb.StreamInfoV11{V1_0: &pb.StreamInfo{
			StreamId:     description.GetStreamId(),
			Width:        description.GetWidth(),
			Height:       description.GetHeight(),
			Format:       description.GetPixelFormat(),
			Dataspace:    description.GetDataspace(),
			Intent:       &intent,
			TunneledMode: true,
		}})
	}
	return streams
}

func videoOf(report *pb.ProcessReport) (*pb.Artifact, error) {
	for _, artifact := range report.GetArtifacts() {
		if artifact.GetKind() == pb.ArtifactKind_ARTIFACT_KIND_VIDEO {
			return artifact, nil
		}
	}
	return nil, &Failure{Reason: "ARTIFACT_NOT_FOUND", Message: "the job made no video"}
}

// randomUUID draws a UUID for request_id.
func randomUUID() string {
	digits := []byte(randomHex(16))
	digits[12], digits[16] = '4', "89ab"[digits[16]%4]
	return fmt.Sprintf("%s-%s-%s-%s-%s", digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
}
