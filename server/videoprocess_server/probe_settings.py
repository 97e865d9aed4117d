"""What a probe on this machine needs of the service's settings: environment and file tell it, flags of `serve` it cannot see."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from videoprocess_server.settings import ENVIRONMENT_PREFIX, Settings

#: addresses of all interfaces, and where a caller on this machine reaches them
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - what it is called, not what is listened on


class ProbeSettings(BaseSettings):
    """Where the service answers."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True)

    listen: str = Settings.model_fields["listen"].default
    health_listen: str = ""
    tls_cert: Path | None = None

    def target(self, *, has_tls_ca: bool) -> str:
        """Return where a probe asks.

        Raises:
            ValueError: the settings do not tell, or it could not trust who answers.
        """
        address = self.health_listen or self.listen
        if not self.health_listen and self.tls_cert and not has_tls_ca:
            raise ValueError("the service has a certificate: pass --tls-ca, or give it a health_listen")
        if address.startswith("unix:"):
            return address
        host, _, port = address.rpartition(":")
        if port == "0":
            raise ValueError(f"{address} picks its port itself: pass --target")
        return f"{_ANY_ADDRESS.get(host, host)}:{port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        *_: PydanticBaseSettingsSource,
        **sources: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read them where the service does."""
        return Settings.settings_customise_sources(settings_cls, **sources)
