package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	pb "videoprocess.example/enhance/gen/videoprocess/v1"
)

// 1 MiB is a good size for a fast line; what is in a message when the line is cut is sent again.
const chunkBytes = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// upload sends a file, and what is missing of it again after a cut. It returns the upload's id.
func upload(c *connection, userID int32, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, file)
	if err != nil {
		return "", err
	}
	header := &pb.UploadHeader{
		UserId: &userID, UploadId: randomHex(16), FileName: filepath.Base(path), SizeBytes: &size,
	}
	finish := &pb.UploadFinish{SizeBytes: &size, Sha256: hex.EncodeToString(digest.Sum(nil))}

	var patience patience
	var committed int64
	for {
		known, err := query(c, userID, header.UploadId)
		if err == nil && known.GetComplete() {
			break
		}
		if err == nil && known.GetCommittedSizeBytes() > committed {
			committed = known.GetCommittedSizeBytes()
			patience.renew()
			fmt.Println("upload goes on at", committed)
		}
		if err == nil {
			err = sendFrom(c, header, finish, file, known.GetCommittedSizeBytes())
		}
		if err == nil {
			break
		}
		if err := patience.wait(err); err != nil {
			return "", err
		}
	}
	fmt.Println("uploaded", size, "bytes")
	return header.UploadId, nil
}

// query tells how much the service has; 0 of an upload that it has not seen.
func query(c *connection, userID int32, uploadID string) (*pb.QueryUploadResponse, error) {
	request := &pb.QueryUploadRequest{UserId: &userID, UploadId: uploadID}
	response, err := callOnce(c.files.QueryUpload, request, callTimeout)
	if err != nil && failureOf(err).Reason == "UPLOAD_NOT_FOUND" {
		return &pb.QueryUploadResponse{}, nil
	}
	return response, err
}

// sendFrom sends everything from offset on in one stream.
func sendFrom(c *connection, header *pb.UploadHeader, finish *pb.UploadFinish, file io.ReaderAt, offset int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	defer cancel()
	stream, err := c.files.Upload(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&pb.UploadRequest{Header: header, Offset: offset})
	if err == nil { // the service has taken the upload up, or says why not
		_, err = stream.Header()
	}
	size := finish.GetSizeBytes()
	for isLast := false; err == nil && !isLast; {
		data := make([]byte, min(chunkBytes, size-offset))
		if read, err := file.ReadAt(data, offset); read < len(data) {
			return fmt.Errorf("the file became shorter while it was sent: %w", err)
		}
		checksum := crc32.Checksum(data, castagnoli)
		message := &pb.UploadRequest{Offset: offset, Data: data, Crc32C: &checksum}
		offset += int64(len(data))
		if isLast = offset == size; isLast {
			message.Finish = finish
		}
		err = stream.Send(message)
	}
	_, err = stream.CloseAndRecv() // a Send that fails says nothing: the end of the call tells why
	return err
}

// randomHex draws bytes and returns them as lower-case hexadecimal digits.
func randomHex(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random) // never fails
	return hex.EncodeToString(random)
}
