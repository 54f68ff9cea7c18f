#!/usr/bin/env bash
# Runs the tests in .venv, which the first start creates.
#
#   bash scripts/test.sh        without those that need torch or a minute each
#   bash scripts/test.sh --all  all of them; installs torch, libtpu and wandb
#
# Further arguments go to pytest: bash scripts/test.sh tests/test_layers.py -x
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

require requirements.txt
require requirements-dev.txt
if [[ ${1:-} == --all ]]; then
  require requirements-parity.txt
  require requirements-fit.txt
  require requirements-wandb.txt
  set -- -m "" "${@:2}"
fi
# A file's tests share what they have set up: they stay together. Long ones come
# first, so that no process waits for another at the end: see tests/conftest.py.
# A process that crashes ends the run: pytest-xdist would wait for its tests.
exec "$python" -m pytest -n auto --maxprocesses 4 --dist loadfile \
  --no-loadscope-reorder --max-worker-restart 0 "$@"
