"""ISO base media files (MP4, MOV, 3GP) as bytes: no FFmpeg here, so that nothing is lost that FFmpeg does not know."""
