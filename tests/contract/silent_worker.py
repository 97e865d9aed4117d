"""A worker that never says that it is ready."""

import time

time.sleep(3600)
