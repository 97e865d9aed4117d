"""The server of videoprocess: sessions, jobs and the workers that drive FFmpeg."""
