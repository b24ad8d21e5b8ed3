#!/usr/bin/env bash
# Print the path of the newest installed Python that can create virtual environments.
# Usage: find_python.sh [MAJOR.MINOR], to consider only that version.
set -euo pipefail
shopt -s nullglob

wanted=${1:-}
pyenv_root=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo "${HOME:-}/.pyenv")}
candidates=("$pyenv_root"/versions/*/bin/python)
while IFS= read -r name; do
  candidates+=("$(type -P "$name" || true)")
done < <(compgen -c python3 | grep -E '^python3(\.[0-9]+)?$' | sort -u)

# A pyenv shim fails if its version is not active, so ask each candidate for its version.
# shellcheck disable=SC2016
probe='
import sys, ensurepip, venv
release = "%d.%d" % sys.version_info[:2]
wanted = sys.argv[1] or release
if sys.version_info >= (3, 11) and sys.version_info.releaselevel == "final" and release == wanted:
    print("%d.%d.%d" % sys.version_info[:3], sys.executable)
'
newest=$(for candidate in "${candidates[@]}"; do
  "$candidate" -c "$probe" "$wanted" 2>/dev/null || true
done | sort -V | tail -n 1)
if [ -z "$newest" ]; then
  echo "error: Python ${wanted:-3.11 or newer} with venv was not found; install it, for example with pyenv" >&2
  exit 1
fi
echo "${newest#* }"
