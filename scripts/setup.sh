# shellcheck shell=bash
# Sourced by run.sh and test.sh: goes to the repository's root and defines
# `require FILE`, after which .venv has everything that FILE lists, in the
# versions of constraints.txt. The environment may name others of the three:
#
#   PG_PYTHON=python3.13       what .venv is made with: chosen once, as it is made
#   PG_VENV=.venv-newest       the folder
#   PG_CONSTRAINTS=/dev/null   the versions: here the newest of everything

CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
base=${PG_PYTHON:-python3}
venv=${PG_VENV:-.venv}
constraints=${PG_CONSTRAINTS:-constraints.txt}
python=$venv/bin/python

# What XLA frees after each step on a CPU it gets anew for the next one, page by
# page: in large pages, where the system gives them to those who ask.
export GLIBC_TUNABLES=${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}

# The stamp is a copy of FILE and the constraints, made when pip has succeeded:
# as long as they agree, pip is not called. A run that finds another one at work
# waits for it.
require() {
  ready "$1" && return
  command -v "$base" >/dev/null || die "There is no $base on the PATH."
  (
    lock
    ready "$1" && exit
    say "Setting up $venv for $1: once, a minute or a few."
    create_venv
    forget_half_installed
    install "$1"
    cat "$1" "$constraints" >"$venv/installed-$1.new"
    mv "$venv/installed-$1.new" "$venv/installed-$1"
  ) 9>>"$venv.lock"
}

ready() {
  [[ -x $python ]] &&
    cat "$1" "$constraints" | cmp -s - "$venv/installed-$1"
}

say() { printf '%s\n' "$*" >&2; }

die() { say "$@" && exit 1; }

# Not flock(1), which macOS lacks. The lock belongs to the open file: it ends
# with the subshell that opened it, or with a pip that outlives the subshell.
lock() {
  "$base" - "$venv" <<'EOF'
import fcntl, sys
try:
  fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
  venv = sys.argv[1]
  print(f"Another run is setting up {venv}: waiting for it.", file=sys.stderr)
  fcntl.flock(9, fcntl.LOCK_EX)
EOF
}

# A package's RECORD is the last file that is written of it, pip's own included.
create_venv() {
  local pip="$venv/lib/python3*/site-packages/pip-*.dist-info/RECORD"
  [[ -x $python ]] && compgen -G "$pip" >/dev/null && return
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "pg needs Python 3.11 or newer; $base is $("$base" --version)." \
      "If there is a newer one, name it: PG_PYTHON=python3.12 bash scripts/run.sh"
  "$base" -c 'import sys; sys.exit(sys.version_info >= (3, 15))' ||
    say "pg was tested on Python 3.11 to 3.14; $base is $("$base" --version)." \
      "If something fails, name another: PG_PYTHON=python3.14; remove $venv first."
  "$base" -m venv --clear "$venv" ||
    die "$base could not create $venv, see above." \
      "On Debian and Ubuntu this helps: apt install python3-venv"
}

# pip takes a package whose installation was interrupted for installed.
forget_half_installed() {
  local info
  for info in "$venv"/lib/python3*/site-packages/*.dist-info; do
    [[ -e $info/RECORD ]] || rm -r "$info"
  done
}

install() {
  local wanted=(-c "$constraints" -r "$1")
  [[ $1 != requirements.txt ]] || wanted+=("$(jax_here)")
  # Where only pg.fit looks: see the file.
  [[ $1 != requirements-fit.txt ]] ||
    wanted+=(--no-deps --upgrade --target "$venv/fit")
  "$python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}"
}

# jax for this machine's accelerator, chosen once: remove .venv to choose again.
jax_here() {
  [[ -s $venv/jax ]] || choose_jax >"$venv/jax"
  cat "$venv/jax"
}

choose_jax() {
  # The PCI ids of TPUs v2 to 7x, as in jax/_src/hardware_utils.py.
  local tpu='^PCI_ID=1AE0:00(27|56|5E|62|63|6F|76)$'
  if nvidia-smi -L >/dev/null 2>&1; then
    echo "jax[cuda12]"
  elif grep -Eqs "$tpu" /sys/bus/pci/devices/*/uevent; then
    echo "jax[tpu]"
  else
    echo "jax"
  fi
}
