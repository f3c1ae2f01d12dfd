#!/usr/bin/env bash
# Installs what is missing, runs one benchmark, and leaves its report beside the results.
#   bash scripts/run_all.sh                                              the quickstart
#   bash scripts/run_all.sh run_configs/fu2023/table1.yaml --data-dir D  any other; options go to
#                                                                        `jiant-sparse grid`
# Results: $OUTPUT_DIR (default results). A second call re-runs nothing that is done.
set -euo pipefail
cd "$(dirname "$0")/.."

config=run_configs/quickstart.yaml
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    config="$1"
    shift
fi
output="${OUTPUT_DIR:-results}"

bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
if grep -q '^data_dir: data/synthetic$' "$config" 2>/dev/null; then
    jiant-sparse data synthesize --data-dir data/synthetic >&2
fi
# grid prints the benchmark's directory when it has run, all else on stderr.
status=0
directory="$(jiant-sparse grid "$config" --output-dir "$output" "$@")" || status=$?
if [ -d "$directory" ]; then
    # What went wrong first decides the exit code.
    jiant-sparse report "$directory" || { reported=$?; [ "$status" != 0 ] || status=$reported; }
else
    printf '%s\n' "$directory"
fi
exit "$status"
