"""Open files that callers on this machine pass over a Unix socket. Beside rpc: it knows no gRPC, and rpc knows nothing of it."""
