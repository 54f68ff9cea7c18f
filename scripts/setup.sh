# shellcheck shell=bash
# Sourced by run.sh and test.sh: goes to the repository's root and defines
# `require FILE`, after which .venv has everything that FILE lists.

CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=.venv/bin/python

# The stamp is a copy of FILE, made when pip has succeeded: as long as the two
# agree, pip is not called. A run that finds another one at work waits for it.
require() {
  ready "$1" && return
  command -v python3 >/dev/null || die "There is no python3 on the PATH."
  (
    lock
    ready "$1" && exit
    say "Setting up .venv for $1: once, a minute or a few."
    create_venv
    forget_half_installed
    install "$1"
    cp "$1" ".venv/installed-$1.new"
    mv ".venv/installed-$1.new" ".venv/installed-$1"
  ) 9>>.venv.lock
}

ready() { [[ -x $python ]] && cmp -s "$1" ".venv/installed-$1"; }

say() { printf '%s\n' "$*" >&2; }

die() { say "$@" && exit 1; }

# Not flock(1), which macOS lacks. The lock belongs to the open file: it ends
# with the subshell that opened it, or with a pip that outlives the subshell.
lock() {
  python3 - <<'EOF'
import fcntl, sys
try:
  fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
  print("Another run is setting up .venv: waiting for it.", file=sys.stderr)
  fcntl.flock(9, fcntl.LOCK_EX)
EOF
}

# A package's RECORD is the last file that is written of it, pip's own included.
create_venv() {
  local pip='.venv/lib/python3*/site-packages/pip-*.dist-info/RECORD'
  [[ -x $python ]] && compgen -G "$pip" >/dev/null && return
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "pg needs Python 3.11 or newer; python3 is $(python3 --version)." \
      "If there is a newer one: python3.12 -m venv .venv, then start again."
  python3 -m venv --clear .venv ||
    die "python3 could not create .venv, see above." \
      "On Debian and Ubuntu this helps: apt install python3-venv"
}

# pip takes a package whose installation was interrupted for installed.
forget_half_installed() {
  local info
  for info in .venv/lib/python3*/site-packages/*.dist-info; do
    [[ -e $info/RECORD ]] || rm -r "$info"
  done
}

install() {
  local wanted=(-r "$1")
  [[ $1 != requirements.txt ]] || wanted+=("$(jax_here)")
  "$python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}"
}

# jax for this machine's accelerator, chosen once: remove .venv to choose again.
jax_here() {
  [[ -s .venv/jax ]] || choose_jax >.venv/jax
  cat .venv/jax
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
