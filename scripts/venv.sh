#!/bin/sh
# Make .venv from requirements.lock, every file checked against its hash, and install this package into it (editable).
# Usage: scripts/venv.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for python in ${1:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough "$python"; then
            command -v "$python"
            return
        fi
    done
    say "error: ${1:-python3} is not a Python of at least 3.11."
    say "  hint: install one, or name it: make PYTHON=/path/to/python3.11 ..."
    exit 1
}

python=$(find_python "${1:-}")
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    say "error: $python cannot make a virtual environment: it comes without ensurepip."
    say "  hint: on Debian and Ubuntu: apt-get install python3-venv"
    exit 1
fi

say "Making .venv from requirements.lock ..."
"$python" -m venv .venv
install() { .venv/bin/python -m pip install -qq --no-compile --no-input "$@"; }

# uv, itself from the lock, fetches the rest in a fraction of pip's time. It does not read pip's configuration, so
# where only pip has been told of a mirror or a proxy, pip does it all.
sed -n '/^uv==/,/[^\\]$/p' requirements.lock >.venv/uv.lock
install --require-hashes -r .venv/uv.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock 2>/dev/null ||
    install --require-hashes -r requirements.lock

# The build backend is in the lock too, so nothing unpinned is fetched here.
install --no-deps --no-build-isolation -e .
