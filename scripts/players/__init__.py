"""Players that are not FFmpeg, without a screen: each plays a file to its end and seeks in it."""
