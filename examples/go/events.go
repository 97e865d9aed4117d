package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	pb "videoprocess.example/enhance/gen/videoprocess/v1"
)

// follow waits for a job's one terminal event and returns its report. After a cut it subscribes again after the last
// number it saw, so that no event is missed and none is seen twice.
func follow(c *connection, userID int32, jobID string, afterSequence int64) (*pb.ProcessReport, error) {
	var patience patience
	for {
		report, err := followOnce(c, userID, jobID, &afterSequence, patience.renew)
		if report != nil {
			return report, nil
		}
		if errors.Is(err, io.EOF) { // it does not end by itself, but if it did: again, with a pause
			err = &Failure{Reason: "EVENTS_ENDED", MayPass: true, Message: "the events ended"}
		}
		if err := patience.wait(err); err != nil {
			return nil, err
		}
	}
}

// followOnce reads one subscription; afterSequence moves on with each numbered event.
func followOnce(
	c *connection, userID int32, jobID string, afterSequence *int64, progressed func(),
) (*pb.ProcessReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	defer cancel()
	stream, err := c.callback.Subscribe(ctx, &pb.SubscribeRequest{UserId: &userID, AfterSequence: afterSequence})
	if err != nil {
		return nil, err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		progressed()
		event := response.GetEvent()
		if event.GetSequence() != 0 { // only OnProcessDone and OnError have numbers
			*afterSequence = event.GetSequence()
		}
		if changed := event.GetOnStatusChanged(); changed != nil {
			fmt.Println("status", changed.GetStatus(), changed.GetMessage())
		}
		if event.GetJobId() != jobID {
			continue
		}
		switch {
		case event.GetOnProgress() != nil:
			progress := event.GetOnProgress().GetProgress()
			fmt.Printf("progress %v %.1f %% segments %d of %d\n", progress.GetPhase(), progress.GetPercent(),
				progress.GetSegmentsDone(), progress.GetSegmentsTotal())
		case event.GetOnProcessDone() != nil:
			return event.GetOnProcessDone().GetReport(), nil
		case event.GetOnError() != nil:
			failed := event.GetOnError()
			return nil, &Failure{Reason: failed.GetReason(), Message: failed.GetMessage()}
		}
	}
}
