#!/usr/bin/env bash
# Runs pg in .venv, which the first start creates. Paths count from the
# repository's root.
#
#   bash scripts/run.sh               the main job: trains configs/nano.py
#   bash scripts/run.sh VERB ARGS...  python -m pg.VERB ARGS..., for example
#   bash scripts/run.sh train --config transfers/forkme.py --workdir runs/mine
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if (($#)) && ! grep -qs '__main__' "pg/$1.py"; then
  die "There is no verb '$1'; there are:" \
    "$(grep -l '__main__' pg/*.py | sed 's|pg/\(.*\).py|\1|' | paste -sd ' ' -)"
fi
require requirements.txt
if (($#)); then
  exec "$python" -m "pg.$1" "${@:2}"
fi
"$python" -m pg.train --config configs/nano.py --workdir runs/nano
say "The report with its pictures: $PWD/runs/nano/report.html"
