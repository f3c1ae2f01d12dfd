#!/usr/bin/env bash
# Installs what is missing and runs format check, lint, type check and tests. Options go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
bash scripts/browser.sh
export PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
ruff format --check .
ruff check .
mypy
# Three processes: some tests wait for others more than they compute.
python -m pytest -q --numprocesses 3 --dist worksteal "$@"
