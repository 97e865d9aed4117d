#!/usr/bin/env bash
# Build the S3 server that tests talk to, into the folder that is named. It is versitygw: one program, Apache-2.0, with conditional
# writes, multipart uploads and presigned URLs over a plain folder.
set -euo pipefail
TOOLCHAIN=go1.25.4
export GOBIN=$1 GOTOOLCHAIN=auto GOFLAGS=-mod=mod

# A Go from 1.21 on fetches a newer one where it needs it. What that does is done here for older ones, such as Debian 12's.
if [ -z "$(go env GOTOOLCHAIN)" ]; then
    module=golang.org/toolchain@v0.0.1-$TOOLCHAIN.$(go env GOOS)-$(go env GOARCH)
    GOROOT=$(go mod download -json "$module" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
    chmod -R u+w "$GOROOT"
    chmod -R +x "$GOROOT/bin" "$GOROOT/pkg/tool"
    cp "$GOROOT/src/_go.mod" "$GOROOT/src/go.mod"
    export GOROOT PATH=$GOROOT/bin:$PATH
fi
go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
