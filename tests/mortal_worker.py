"""The worker program with its durable steps numbered: see mortal_server."""

from __future__ import annotations

import os
import sys

from durable_steps import VARIABLE, Reins, Steps
from videoprocess_server.execution import sandbox, worker
from videoprocess_server.execution.worker_main import media_handlers


def main() -> None:
    post = worker.enter(sys.argv)
    sandbox.SCOPED = False  # it may have to kill its service
    Steps(Reins.of_text(os.environ[VARIABLE]), os.getppid()).number_os_calls()
    worker.serve(post, media_handlers())


if __name__ == "__main__":
    main()
