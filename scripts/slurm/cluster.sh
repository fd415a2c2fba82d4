#!/usr/bin/env bash
# A one-node Slurm cluster in a folder, for tests: as root, on any machine. Outside it, only munge's files in /run.
#   apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge     once
#   bash scripts/slurm/cluster.sh start DIR      then: export SLURM_CONF=DIR/slurm.conf
#   bash scripts/slurm/cluster.sh stop DIR
# No cgroups and no accounting. The node reports CPUS processors (default 4), whatever the machine has, so that tasks
# can share them. A requeued job waits 10 s before it may start, where Slurm's default is two minutes (cred_expire).
set -euo pipefail
usage="usage: cluster.sh start|stop DIR"
action=${1:?$usage}
dir=${2:?$usage}

stop() {
  for name in slurmctld slurmd munged; do
    [ -f "$dir/$name.pid" ] || continue
    kill "$(cat "$dir/$name.pid")" 2>/dev/null || true
  done
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
  [ "$(id -u)" = 0 ] || { echo "slurmd starts jobs as their users, so it needs root" >&2; exit 2; }
  for program in slurmctld slurmd munged scontrol; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null ||
      { echo "$program is missing: apt-get install -y slurmctld slurmd slurm-client munge" >&2; exit 2; }
  done
  mkdir -p "$dir/state" "$dir/spool"
  dir=$(cd "$dir" && pwd)
  # a socket's path has at most 107 characters, and munged requires every parent folder to be writable by root only
  run=$(mktemp -d /run/paribus-slurm-XXXXXX)
  chmod 755 "$run"
  echo "$run" > "$dir/run"
  head -c 128 /dev/urandom > "$run/munge.key"
  chmod 600 "$run/munge.key"
  munged --force --key-file="$run/munge.key" --socket="$run/munge.socket" --seed-file="$run/munge.seed" \
    --pid-file="$dir/munged.pid" --log-file="$run/munged.log"
  host=$(hostname -s)
  cat > "$dir/slurm.conf" <<CONF
ClusterName=paribus
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$run/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
JobRequeue=1
MaxArraySize=${MAX_ARRAY:-4}
KillWait=30
MinJobAge=${MIN_JOB_AGE:-300}
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=${CPUS:-4} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  export SLURM_CONF="$dir/slurm.conf" PATH="$PATH:/usr/sbin"
  slurmctld
  slurmd
  for _ in $(seq 100); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && { echo "export SLURM_CONF=$SLURM_CONF"; return; }
    sleep 0.1
  done
  echo "the node is not up; $dir/slurmctld.log and $dir/slurmd.log say why" >&2
  stop
  exit 1
}

case "$action" in
  start) start ;;
  stop)
    stop
    [ ! -f "$dir/run" ] || rm -rf "$(cat "$dir/run")"
    ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
