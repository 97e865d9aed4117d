"""Options of every command that say whom it trusts and who it is."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from videoprocess_client.credentials import Tls, Token, is_private, token_of_file

TOKEN_VARIABLE = "VIDEOPROCESS_TOKEN"  # noqa: S105 - a name


@dataclass(frozen=True)
class Access:
    """What the options say."""

    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token_file: Path | None = None

    @property
    def credentials(self) -> Tls | None:
        """For TLS; None where only the address may ask for it."""
        if self.tls or self.ca or self.cert or self.key:
            return Tls(self.ca, self.cert, self.key)
        return None

    @property
    def token(self) -> Token | None:
        """What calls carry: never an option, which other users of this machine could read."""
        if self.token_file is not None:
            return token_of_file(self.token_file)
        return os.environ.get(TOKEN_VARIABLE) or None

    def check(self, target: str) -> None:
        """Return if the options fit together.

        Raises:
            typer.BadParameter: They do not.
        """
        if (self.cert is None) != (self.key is None):
            raise typer.BadParameter("--cert and --key go together", param_hint="--cert")
        if self.token is not None and self.credentials is None and not is_private(target):
            raise typer.BadParameter(
                "a token is sent over TLS, or to this machine, only: pass --tls or --ca",
                param_hint="--token-file",
            )


_ACCESS: ContextVar[Access] = ContextVar("access")


def access() -> Access:
    """What the options of the command at hand say."""
    return _ACCESS.get(Access())


def _file(name: str, text: str, envvar: str | None = None) -> Any:  # noqa: ANN401 - an annotation
    return Annotated[Path | None, typer.Option(f"--{name}", envvar=envvar, metavar="FILE", help=text)]


_OPTIONS: Mapping[str, tuple[Any, object]] = {
    "tls": (
        Annotated[
            bool,
            typer.Option(
                "--tls",
                help="Use TLS, with the authorities that gRPC knows. grpcs://HOST:PORT asks for it too.",
            ),
        ],
        False,
    ),
    "ca": (
        _file("ca", "Authorities that may sign the server's certificate (PEM). Uses TLS.", "VIDEOPROCESS_CA"),
        None,
    ),
    "cert": (_file("cert", "Certificate that says who this is (PEM). Uses TLS.", "VIDEOPROCESS_CERT"), None),
    "key": (_file("key", "Key of that certificate (PEM).", "VIDEOPROCESS_KEY"), None),
    "token_file": (
        _file(
            "token-file", f"File with a token that says who this is. Default: the token in {TOKEN_VARIABLE}."
        ),
        None,
    ),
}


def with_access(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options."""

    @wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401 - whatever the options are
        _ACCESS.set(Access(**{name: values.pop(name) for name in _OPTIONS}))
        command(**values)

    own = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in own.parameters.items()}
    return run
