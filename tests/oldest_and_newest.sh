#!/usr/bin/env bash
# Run the kernel tests with the oldest and with the newest releases that pyproject.toml allows.
# Usage: tests/oldest_and_newest.sh [oldest|newest] [PYTEST ARGUMENT ...]
# Without "oldest" or "newest", it runs both, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."

environments=(oldest newest)
case ${1:-} in
  oldest | newest) environments=("$1") && shift ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH=$PWD

# pip cannot select the lowest allowed releases, but uv can.
"$(tests/find_python.sh)" -m venv "$scratch/uv"
"$scratch/uv/bin/python" -m pip install --quiet uv

failed=()
for environment in "${environments[@]}"; do
  case $environment in
    oldest) python=$(tests/find_python.sh 3.11) resolution=lowest-direct ;;
    newest) python=$(tests/find_python.sh) resolution=highest ;;
  esac
  echo "== $environment: $("$python" --version)"
  "$python" -m venv "$scratch/$environment"
  "$scratch/uv/bin/uv" pip install --quiet --python "$scratch/$environment/bin/python" \
    --resolution "$resolution" --editable '.[test]'
  "$scratch/uv/bin/uv" pip list --quiet --python "$scratch/$environment/bin/python" |
    grep -E '^(chex|flax|jax|jaxlib|numpy|optax|orbax-checkpoint|scipy) '
  "$scratch/$environment/bin/python" -m pytest tests/kernels "$@" || failed+=("$environment")
  rm -rf "${scratch:?}/$environment"
done

if [ ${#failed[@]} -gt 0 ]; then
  echo "error: the kernel tests fail with the ${failed[*]} releases; see the reports above" >&2
  exit 1
fi
