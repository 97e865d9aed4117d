#!/usr/bin/env bash
# Writes requirements/*.txt: every package with its version and the hashes of its files, for all platforms and Pythons from
# 3.11 on. Versions that are there stay; `scripts/lock.sh --upgrade` takes the newest that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}

lock() { # NAME ARGUMENTS
    local name=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-annotate --custom-compile-command "make lock" --output-file "requirements/$name.txt" "$@" "${upgrade[@]}"
}

upgrade=("$@")
lock dev pyproject.toml --extra dev --extra plots --group pyproject.toml:build
lock runtime pyproject.toml --group pyproject.toml:build --constraints requirements/dev.txt
lock manifests --group pyproject.toml:manifests
lock audit --group pyproject.toml:audit
lock build --group pyproject.toml:build --constraints requirements/dev.txt
lock service pyproject.toml --extra postgres --extra s3 --extra tracing --constraints requirements/dev.txt
lock service-stabilise pyproject.toml --extra postgres --extra s3 --extra stabilise --extra tracing --constraints requirements/dev.txt
lock service-ray pyproject.toml --extra postgres --extra ray --extra s3 --extra tracing --constraints requirements/dev.txt
lock scale pyproject.toml --extra dev --extra ray --group pyproject.toml:build --constraints requirements/dev.txt
