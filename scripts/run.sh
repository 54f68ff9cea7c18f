#!/usr/bin/env bash
# Runs pg in .venv, which the first start creates. Paths count from the
# repository's root.
#
#   bash scripts/run.sh               the main job: scripts/quickstart.py
#   bash scripts/run.sh VERB ARGS...  python -m pg.VERB ARGS..., for example
#   bash scripts/run.sh train --config transfers/forkme.py --workdir runs/mine
#   bash scripts/run.sh VERB --help   the arguments of a verb
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

verbs=$(grep -l '__main__' pg/*.py | sed 's|pg/\(.*\).py|\1|' | paste -sd ' ' -)

# The comment above, then each verb with the first line of its docstring.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/run.sh
  printf '\nThe verbs:\n\n'
  for verb in $verbs; do
    printf '  %-9s %s\n' "$verb" "$(sed -n '1s/^r\{0,1\}"""//p' "pg/$verb.py")"
  done
}

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  usage
  exit
fi
if (($#)) && [[ " $verbs " != *" $1 "* ]]; then
  die "There is no verb '$1'; there are: $verbs"
fi
require requirements.txt
if (($#)); then
  exec "$python" -m "pg.$1" "${@:2}"
fi
exec "$python" -m scripts.quickstart --workdir runs/quickstart
