#!/bin/bash
# Put docker-py, which the tests drive hull with, into a virtual environment below the build folder.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=build/docker-py
wanted=tests/tests/docker_py/requirements.txt
# Tells the tests that there was no network to get it from.
offline=build/docker-py.offline

rm -f "$offline"
if cmp -s "$wanted" "$venv/installed.txt"; then
    exit 0
fi
echo "[deps] docker-py (from PyPI, into $venv): drives hull's API in the tests"
rm -rf "$venv"
# Debian's Python, whatever else is first in the path: its package python3-venv is what was installed.
/usr/bin/python3 -m venv "$venv"
if "$venv/bin/pip" --quiet install --requirement "$wanted"; then
    cp "$wanted" "$venv/installed.txt"
    exit 0
fi
rm -rf "$venv"
if /usr/bin/python3 -c 'import socket; socket.create_connection(("pypi.org", 443), 10)' 2>/dev/null; then
    echo "[deps] error: docker-py cannot be installed, though pypi.org is there; pip's words are above" >&2
    exit 1
fi
echo "[deps] pypi.org cannot be reached: the test with docker-py will be skipped"
touch "$offline"
