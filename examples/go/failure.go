package main

import (
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	patienceLimit = 60 * time.Second
	firstPause    = 100 * time.Millisecond
	longestPause  = 5 * time.Second
)

// Failure tells why a call or job failed; docs/errors.md lists the reasons and what to do about each.
type Failure struct {
	// Reason is the exact cause, e.g. NOT_A_VIDEO; gRPC's own code where the service itself did not answer.
	Reason string
	// CamRetCode is the HDI's number, e.g. -3. 0 where the service itself did not answer.
	CamRetCode int
	// MayPass tells whether the same call may succeed later.
	MayPass bool
	// RetryDelay is how long the service asks to wait before that.
	RetryDelay time.Duration
	// Message is one English sentence.
	Message string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s (CamRetCode %d): %s", f.Reason, f.CamRetCode, f.Message)
}

// failureOf reads the google.rpc.Status that the service puts into the trailers of every error.
func failureOf(err error) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		return known
	}
	answer, isStatus := status.FromError(err)
	if !isStatus {
		return &Failure{Reason: "LOCAL", Message: err.Error()}
	}
	failure := &Failure{Reason: answer.Code().String(), Message: answer.Message()}
	// A connection that broke, or a service that is not there, says nothing of its own.
	failure.MayPass = answer.Code() == codes.Unavailable || answer.Code() == codes.DeadlineExceeded
	for _, each := range answer.Details() {
		switch detail := each.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == "videoprocess" {
				failure.Reason = detail.GetReason()
				failure.CamRetCode, _ = strconv.Atoi(detail.GetMetadata()["cam_ret_code"])
				failure.MayPass = detail.GetMetadata()["retryable"] == "true"
			}
		case *errdetails.RetryInfo:
			failure.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	return failure
}

// patience waits between the tries of one operation, until it is used up.
type patience struct {
	failingSince time.Time
	pause        time.Duration
}

// wait pauses before the next try, or returns err when another cannot help or there were enough.
func (p *patience) wait(err error) error {
	failure := failureOf(err)
	if p.pause == 0 {
		p.failingSince, p.pause = time.Now(), firstPause
	}
	if !failure.MayPass || time.Since(p.failingSince) > patienceLimit {
		return failure
	}
	log.Printf("trying again: %v", failure)
	time.Sleep(max(p.pause, failure.RetryDelay))
	p.pause = min(2*p.pause, longestPause)
	return nil
}

// renew says that there was progress: the next failure is the first one again.
func (p *patience) renew() { p.pause = 0 }
