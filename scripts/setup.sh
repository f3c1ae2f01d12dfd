#!/usr/bin/env bash
# Makes .venv with the pinned environment; does nothing if it is there and up to date.
# Another Python: PYTHON=/path/to/python3.11 bash scripts/setup.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
stamp=.venv/.installed
wanted="$(cat requirements.txt setup.py | sha256sum)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "setup.sh: $("$python" --version 2>&1 || echo "no $python") found; the tested" \
        "environment needs Python 3.11 (set PYTHON=/path/to/python3.11)" >&2
    exit 2
fi

echo "installing the environment into .venv" >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet)
"${pip[@]}" "$(grep '^torch==' requirements.txt)"
"${pip[@]}" --no-deps -r requirements.txt -e .
printf '%s' "$wanted" >"$stamp"
