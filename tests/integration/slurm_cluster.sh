#!/usr/bin/env bash
# Start a private Slurm with two small nodes on this machine's loopback, for the tests.
#
#   slurm_cluster.sh start DIR   write DIR/slurm.conf, start munged, slurmctld and two slurmd
#   slurm_cluster.sh stop DIR    kill these daemons and their jobs in any state
#
# In between, set SLURM_CONF=DIR/slurm.conf for sbatch, srun, squeue, ... All files are in DIR. Its path
# must be short, because DIR/munge.socket is a Unix socket (107 bytes). It runs as the current user. Each
# start forgets all earlier jobs. It needs Debian's packages slurm-wlm and munge, but not their services.
set -euo pipefail
usage="usage: ${0##*/} start|stop DIR"
action=${1:?$usage} dir=$(realpath -m -- "${2:?$usage}")
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$dir/slurm.conf
cluster=loopback mark=TEST_SLURM_DIR=$dir

pids() {    # find by environment: the daemons (and slurmstepd), and the processes of jobs
    {
        grep -lzsxF -- "$mark" /proc/[0-9]*/environ
        grep -lzsxF -- "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ |
            xargs -r grep -lzsxF -- "SLURM_CLUSTER_NAME=$cluster"
    } | cut -d/ -f3 | sort -u || true
}

stop() {    # use KILL at once: nothing is reused, and jobs may ignore TERM
    for _ in {1..20}; do
        [[ -n $(pids) ]] || return 0
        pids | xargs -r kill -s KILL 2>/dev/null || true
        sleep 0.2
    done
    echo "${0##*/}: these processes remain: $(pids | xargs)" >&2
    return 1
}

fail() {    # MESSAGE NAME: stop all, and print the message and the end of DIR/NAME.log on one line
    stop || true
    echo "${0##*/}: $1: $(tail -n 3 -- "$dir/$2.log" 2>&1 | tr '\n' ' ')" >&2
    exit 1
}

run() {    # NAME DAEMON ARGUMENT...: write all output to DIR/NAME.log, not to the caller's pipes
    env "$mark" "${@:2}" </dev/null &>>"$dir/$1.log" || fail "$1 did not start" "$1"
}

start() {
    local host port name me nodes
    [[ -z $(pids) ]] || { echo "${0##*/}: one already runs in $dir" >&2; exit 1; }
    mkdir -p -- "$dir"/{state,spool}
    chmod go-w -- "$dir"    # munged requires this
    rm -f -- "$dir"/*.log "$dir"/*.pid
    host=$(uname -n) host=${host%%.*} me=$(id -un) nodes="$host ${host}2"
    while    # find three free ports; Slurm's own are 6817 to 6819
        port=$((20000 + RANDOM % 10000))
        (: <>/dev/tcp/127.0.0.1/$port || : <>/dev/tcp/127.0.0.1/$((port + 1)) ||
            : <>/dev/tcp/127.0.0.1/$((port + 2))) 2>/dev/null
    do :; done
    # cred_expire is also the delay of a requeued job (default: 120 s).
    # The name of a job's first node must resolve, because the processes meet there.
    # config_overrides: use the numbers of CPUs below instead of the machine's.
    cat >"$SLURM_CONF" <<CONF
ClusterName=$cluster
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$me
SlurmdUser=$me
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=5
NodeName=$host NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=4
NodeName=${host}2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=4
PartitionName=test Nodes=$host,${host}2 Default=YES MaxTime=INFINITE State=UP
CONF
    (umask 077 && head -c 128 /dev/urandom >"$dir/munge.key")
    run munged munged --force --origin=127.0.0.1 --socket="$dir/munge.socket" \
        --key-file="$dir/munge.key" --log-file="$dir/munged.log" \
        --pid-file="$dir/munged.pid" --seed-file="$dir/munged.seed"
    run slurmctld slurmctld -c
    for name in $nodes; do run $name slurmd -N $name; done
    for _ in {1..60}; do
        [[ $(timeout 5 sinfo -h -N -t idle -o %T 2>/dev/null | xargs) != "idle idle" ]] || return 0
        sleep 0.5
    done
    for name in munged slurmctld $nodes; do
        kill -0 "$(cat -- "$dir/$name.pid")" 2>/dev/null || fail "$name died" $name
    done
    fail "the nodes are not idle after 30 s" slurmctld
}

case $action in
    start | stop) $action ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
