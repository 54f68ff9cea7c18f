#!/usr/bin/env bash
# Trains on a slice of a TPU pod, from any machine with gcloud: makes the slice,
# installs this clone on all its hosts, runs a verb there and shows what it says.
# A slice that is preempted is made again, and the run goes on from its last
# checkpoint: so the workdir is in a bucket.
#
#   export TPU=mine ZONE=europe-west4-b TYPE=v5litepod-16
#   bash scripts/cloud/tpu_pod.sh run train --config transfers/vqav2.py \
#     --workdir gs://bucket/runs/vqav2
#
# Ctrl-C leaves the job alone, and the same command follows it again. The parts
# of `run`: create, install, start VERB ARGS..., follow. The end: stop, which
# lets the job save (end `run` first, or it starts again), and delete.
#
#   RUNTIME=v2-alpha-tpuv5-lite  software of the slice; each type has its own
#   CREATE="--spot --labels=a=b" more flags for the slice
#   QUEUED=1                     queue for it, as a queued resource
#   COMPILED=gs://bucket/xla     where compiled programs outlive a slice
#   PG_PYTHON=python3.12         of the hosts; installed there if need be
set -euo pipefail

main() {
  case ${1:-} in
    run | start) (($# > 1)) || die "$1 what? For example: $1 train --help" ;;
    create | install | follow | stop | delete | host) ;;
    *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 1 ;;
  esac
  CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")/../.."
  [[ $1 == host ]] || : "${TPU:?names the slice}" "${ZONE:?is its zone}"
  "$@"
}

run() {
  local status="" failed=0
  until [[ $status == 0 ]]; do
    ready
    if ! works && ! { install && start "$@"; }; then
      ((++failed < 5)) || die "The hosts could not be set up: see above."
      pause
      continue
    fi
    began=1 failed=0
    follow || pause  # the connection may have ended, and not the job
    status=$(on 0 "cat pg/job.status" | tail -n 1) || status=""
    case $status in
      0 | 143 | "") ;;
      *) pause && [[ $(state) != READY ]] || exit "$status" ;;
    esac
  done
}

# Waits for a slice, and makes one where there is none (any more).
ready() {
  while :; do
    case $(state) in
      READY) return ;;
      "") create || [[ -n ${began:-} ]] || exit ;;
      *ING | unknown) ;;  # being made, repaired; gcloud does not get through
      *) delete || : ;;   # PREEMPTED, TERMINATED, ...
    esac
    pause
  done
}

state() {
  tpu tpu-vm list --filter "name~/nodes/$TPU\$" --format "value(state)" ||
    echo unknown
}

create() {
  # shellcheck disable=SC2206  # words
  local as=(--accelerator-type "${TYPE:?is what to make}" ${CREATE:-})
  local runtime=${RUNTIME:-v2-alpha-tpuv5-lite} queue
  if [[ -z ${QUEUED:-} ]]; then
    tpu tpu-vm create "$TPU" --version "$runtime" "${as[@]}"
    return
  fi
  queue=(queued-resources describe "$TPU" --format "value(state.state)")
  [[ -n $(tpu "${queue[@]}" 2>/dev/null) ]] ||
    tpu queued-resources create "$TPU" --node-id "$TPU" \
      --runtime-version "$runtime" "${as[@]}" || return
  while :; do
    case $(tpu "${queue[@]}") in
      ACTIVE) return ;;
      FAILED | SUSPEND*) delete && return 1 ;;
    esac
    pause
  done
}

# All that git knows or would add goes to the hosts, as it was at the first time.
install() {
  local file python=${PG_PYTHON:-python3.11}
  local apt="sudo apt-get -o DPkg::Lock::Timeout=600 -qy"
  if [[ -z ${packed:-} ]]; then
    packed=${TMPDIR:-/tmp}/$TPU.tgz
    git ls-files -co --exclude-standard |
      while read -r file; do [[ ! -f $file ]] || echo "$file"; done |
      tar -czf "$packed" -T - || return
  fi
  tpu tpu-vm scp "$packed" "$TPU:pg.tgz" --worker all || return
  on all "set -e
    command -v $python >/dev/null ||
      { $apt update && $apt install $python $python-venv; }
    mkdir -p pg && tar -xzf pg.tgz -C pg && cd pg
    PG_PYTHON=$python bash -c 'set -e; source scripts/setup.sh
      require requirements.txt; require requirements-cloud.txt'"
}

start() {
  local words
  printf -v words "%q " "$@"
  on all "${COMPILED:+JAX_COMPILATION_CACHE_DIR=$COMPILED }bash \
    pg/scripts/cloud/tpu_pod.sh host $words"
}

# On each host: runs a verb that outlives the connection it was started by.
host() {
  exec 9>>job.lock
  flock -n 9 || die "A job is at work here: follow it, or stop it."
  rm -f job.status
  # shellcheck disable=SC2016  # is expanded later
  nohup setsid bash -c 'trap : TERM; bash scripts/run.sh "$@"
    echo $? >job.status' job "$@" >job.log 2>&1 </dev/null &
  echo $! >job.pid
}

works() {
  on 0 "cd pg && flock -nE 9 job.lock true; [ \$? = 9 ]" 2>/dev/null
}

follow() { on 0 "cd pg && tail -n 100 -f --pid \$(cat job.pid) job.log"; }

stop() { on all "kill -TERM -- -\$(cat pg/job.pid)"; }

delete() {
  if [[ -n ${QUEUED:-} ]]; then
    tpu queued-resources delete "$TPU" --force
  else
    tpu tpu-vm delete "$TPU"
  fi
}

on() { tpu tpu-vm ssh "$TPU" --worker "$1" --command "$2"; }

tpu() { gcloud compute tpus "$@" --zone "$ZONE" --quiet; }

pause() { sleep "${PAUSE:-30}"; }

die() { printf '%s\n' "$*" >&2 && exit 1; }

main "$@"
