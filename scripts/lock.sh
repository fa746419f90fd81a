#!/bin/sh
# Write requirements.lock: the package, its tests and the tools of this repository, for every platform, with hashes.
# Releases stay as they are unless pyproject.toml rules them out; `--upgrade` takes the newest.
set -eu
cd "$(dirname "$0")/.."

.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --group pyproject.toml:dev -o requirements.lock "$@" pyproject.toml
sed -i '1i # Written by `make lock` from pyproject.toml; do not edit.' requirements.lock
