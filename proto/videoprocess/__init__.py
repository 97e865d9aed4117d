"""The wire contract of the video process service; see `videoprocess.v1`."""
