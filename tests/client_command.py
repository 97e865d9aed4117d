"""The command as a real process, with what it remembers in a directory of the test."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-W", "error", "-c", "from videoprocess_client.cli import main; main()"]


@dataclass
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


@dataclass
class Command:
    target: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        environment = {
            **os.environ,
            "VIDEOPROCESS_TARGET": self.target,
            "COLUMNS": "80",
            **self.environment,
        }
        return await asyncio.create_subprocess_exec(
            *PROGRAM, *arguments, stdout=pipe, stderr=pipe, cwd=self.directory, env=environment
        )

    async def __call__(self, *arguments: str) -> Run:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err
        return Run(process.returncode, out.decode(), err.decode())
