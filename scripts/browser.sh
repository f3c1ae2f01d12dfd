#!/usr/bin/env bash
# Finds a Chromium for the browser tests, or installs one where we are root and have apt-get.
# Without one the browser tests are skipped; this script says so and succeeds.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium for the browser tests" >&2
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 &&
        command -v chromium >/dev/null; then
        exit 0
    fi
fi
echo "browser.sh: no Chromium found, the browser tests will be skipped; to run them:" \
    "apt-get install chromium (as root)" >&2
