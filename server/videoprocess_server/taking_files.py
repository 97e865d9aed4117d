"""Settings → whether callers on this machine can pass open files. Part of the composition root, like `app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from videoprocess_server.engine.passed_files import PassedFiles
from videoprocess_server.handover.fd_socket import FdSocket
from videoprocess_server.handover.listening import CannotListenError
from videoprocess_server.rpc.auth.authentication import Authentication
from videoprocess_server.rpc.auth.passing import identify_by
from videoprocess_server.settings import Settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def taking_files(
    settings: Settings, passed: PassedFiles, authentication: Authentication
) -> AsyncIterator[None]:
    """Take open files, unless the settings say not to, or the default socket cannot be made.

    Raises:
        CannotListenError: the socket that the settings name cannot be made.
    """
    async with AsyncExitStack() as stack:
        path = settings.fd_socket_path
        if path is not None:
            taking = FdSocket(passed, settings.fd_users, identify_by(authentication))
            try:
                await stack.enter_async_context(taking.serving(path.absolute()))
            except CannotListenError as error:
                if settings.fd_socket is not None:
                    raise
                log.warning("fd_socket_off", reason=str(error))
        yield
