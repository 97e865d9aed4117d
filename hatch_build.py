"""Build hook: makes the Python code of the protos before a wheel or an editable install is put together."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface[Any]):
    """Calls `proto/codegen.py`; the artifacts list of `pyproject.toml` takes the generated files into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        """Makes the code, except for an sdist: whoever builds from that makes it anew."""
        if self.target_name != "wheel":
            return
        proto = Path(self.root) / "proto"
        spec = importlib.util.spec_from_file_location("videoprocess_codegen", proto / "codegen.py")
        assert spec is not None
        assert spec.loader is not None
        codegen = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(codegen)
        codegen.generate(proto)
