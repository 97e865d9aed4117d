package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"

	pb "videoprocess.example/enhance/gen/videoprocess/v1"
)

// result is a file on its way here.
type result struct {
	file     *os.File
	digest   hash.Hash
	offset   int64
	artifact *pb.Artifact
}

// download fetches a result, after a cut what is missing of it, and checks every message and the whole. The file appears
// under its name when it is whole. It returns its SHA-256.
func download(c *connection, userID int32, artifactID, path string) (string, error) {
	file, err := os.Create(path + ".part")
	if err != nil {
		return "", err
	}
	defer file.Close()
	r := &result{file: file, digest: sha256.New()}
	var patience patience
	for {
		before := r.offset
		err := r.receive(c, &pb.DownloadRequest{UserId: &userID, ArtifactId: artifactID, Offset: before})
		if err == nil {
			break
		}
		if r.offset > before {
			patience.renew()
		}
		if err := patience.wait(err); err != nil {
			return "", err
		}
		fmt.Println("download goes on at", r.offset)
	}
	sum := hex.EncodeToString(r.digest.Sum(nil))
	if sum != r.artifact.GetSha256() {
		return "", &Failure{Reason: "DIGEST_MISMATCH", Message: "the file is not what its SHA-256 says"}
	}
	if err := file.Close(); err != nil {
		return "", err
	}
	return sum, os.Rename(file.Name(), path)
}

// receive appends all from the request's offset on.
func (r *result) receive(c *connection, request *pb.DownloadRequest) error {
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	defer cancel()
	stream, err := c.files.Download(ctx, request)
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if message.GetArtifact() != nil {
			r.artifact = message.GetArtifact()
		}
		if err := r.append(message); err != nil {
			return err
		}
	}
}

// append adds the bytes of a message.
func (r *result) append(message *pb.DownloadResponse) error {
	data := message.GetData()
	if len(data) > 0 && message.GetOffset() != r.offset {
		return &Failure{Reason: "DOWNLOAD_OFFSET", Message: "a message is not where the one before it ended"}
	}
	if crc32.Checksum(data, castagnoli) != message.GetCrc32C() {
		return &Failure{Reason: "CHECKSUM_MISMATCH", MayPass: true, Message: "a message was damaged on the way"}
	}
	if _, err := r.file.Write(data); err != nil {
		return err
	}
	r.digest.Write(data)
	r.offset += int64(len(data))
	return nil
}
