"""What somebody who helps from afar needs to know, in one file that can be sent."""
