"""Generated messages, stubs and servicers of the proto package `videoprocess.v1` (`make proto` writes them)."""
