#!/bin/bash
# A real SLURM cluster on ONE machine, without systemd, for Debian 12, as root.
#
#   start_slurm.sh [start]   install what is missing, write the config, start the
#                            daemons, wait until every node is idle, print sinfo.
#                            Safe to repeat: a daemon that already runs is kept,
#                            a dead one is started again (its node comes back).
#   start_slurm.sh stop      cancel all jobs, then stop only the daemons started
#                            here (by their pid files; name and pid are checked).
#   start_slurm.sh wipe      stop, then delete the cluster's state and config.
#   start_slurm.sh status    which daemons run, and sinfo.
#
# Daemons: munged (authentication), mariadbd + slurmdbd (accounting, for sacct),
# slurmctld (controller), and one slurmd per virtual node, each on its own port.
# The GPUs are fake: SLURM needs a device node per GPU, any device, to hand GPUs
# out and to set CUDA_VISIBLE_DEVICES. CPUs and memory are claims as well.
set -euo pipefail

NODES=${NODES:-4}                  # virtual nodes node1..nodeN
CPUS_PER_NODE=${CPUS_PER_NODE:-4}
GPUS_PER_NODE=${GPUS_PER_NODE:-2}
MEM_PER_NODE=${MEM_PER_NODE:-40000} # MB
NODE_TIMEOUT=${NODE_TIMEOUT:-30}   # s without a slurmd until its node is DOWN
WAIT=${WAIT:-90}                   # s to wait for each daemon / for idle nodes
NICE=${NICE:-5}                    # of the jobs: tests that run beside them come first
ACCOUNTING=${ACCOUNTING:-1}        # 0: no mariadbd, no slurmdbd, no sacct (squeue only)

CLUSTER=lab
HOST=$(hostname -s)
CONF=/etc/slurm                    # the default place, ON PURPOSE: the Snakemake
                                   # plugin drops SLURM_CONF inside its jobs
RUN=/run/slurm-lab                 # pid files
STATE=/var/lib/slurm-lab           # all state: database, spool, fake GPUs
LOG=/var/log/slurm-lab
SOCK=/run/mysqld/mysqld.sock       # libmariadb's built-in default, used by slurmdbd
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { echo "[slurm-lab] $*"; }
# die MESSAGE [LOG]: the end of the log says why.
die() {
    say "ERROR: $1" >&2
    [ -z "${2:-}" ] || { say "the end of $LOG/$2:"; tail -n 40 "$LOG/$2"; } >&2 || true
    exit 1
}

# --- pid file helpers --------------------------------------------------------
# alive NAME PIDFILE: does PIDFILE name a live process whose program is NAME?
# (A zombie counts as dead: a container's pid 1 may never reap it.)
alive() {
    local pid
    pid=$(cat "$2" 2>/dev/null) && [ -n "$pid" ] &&
        awk -v n="$1" '/^Name:/ {ok = $2 == n} /^State:/ {if ($2 == "Z") ok = 0}
                       END {exit !ok}' "/proc/$pid/status" 2>/dev/null
}
listening() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# wait_for WHAT LOG CMD...: repeat CMD until it succeeds.
wait_for() {
    local end=$((SECONDS + WAIT)) what=$1 log=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "after $WAIT s still no $what" "$log"
        sleep 0.3
    done
}
# stop_one NAME PIDFILE: TERM, wait up to 20 s, then KILL; never touches others.
stop_one() {
    alive "$1" "$2" || { rm -f "$2"; return 0; }
    local pid i; pid=$(cat "$2")
    kill "$pid"
    for ((i = 0; i < 100; i++)); do alive "$1" "$2" || break; sleep 0.2; done
    if alive "$1" "$2"; then kill -9 "$pid"; fi
    rm -f "$2"; say "stopped $1 ($pid)"
}

# --- install -----------------------------------------------------------------
install_packages() {
    local p want=(munge slurm-wlm) missing=()
    [ "$ACCOUNTING" = 0 ] || want+=(slurmdbd mariadb-server)
    for p in "${want[@]}"; do
        dpkg-query -W -f='${Status}' $p 2>/dev/null | grep -q 'ok installed' || missing+=($p)
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing: ${missing[*]}"
    # Keep the packages from starting daemons of their own while installing.
    local rc=/usr/sbin/policy-rc.d mine=
    [ -e $rc ] || { printf '#!/bin/sh\nexit 101\n' >$rc; chmod +x $rc; mine=1; }
    { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } \
        >"$LOG/apt.log" 2>&1 || { [ -z "$mine" ] || rm -f $rc; die "apt-get failed" apt.log; }
    [ -z "$mine" ] || rm -f $rc
}

# --- configuration -----------------------------------------------------------
write_config() {
    local i old acct=accounting_storage/none tres=
    [ "$ACCOUNTING" = 0 ] || { acct=accounting_storage/slurmdbd; tres=AccountingStorageTRES=gres/gpu; }
    old=$(cat $CONF/slurm.conf $CONF/gres.conf 2>/dev/null || true)
    [ ! -e $CONF/slurm.conf ] || grep -q '^# slurm-lab' $CONF/slurm.conf ||
        die "$CONF/slurm.conf belongs to another cluster; not touching it"
    mkdir -p $CONF $STATE/{ctld,gpu,mysql,spool}
    chown slurm: $STATE/ctld
    # A fake GPU is a copy of /dev/null: slurmd insists on a device node (needs mknod).
    for ((i = 0; i < GPUS_PER_NODE; i++)); do
        [ -c $STATE/gpu/gpu$i ] || mknod -m 666 $STATE/gpu/gpu$i c 1 3
    done

    cat >$CONF/slurm.conf <<EOF
# slurm-lab: written by start_slurm.sh
ClusterName=$CLUSTER
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
# A requeued job starts again after this many seconds, and not after two minutes.
AuthInfo=cred_expire=5
MpiDefault=none
# No cgroups: plain process tracking, no binding, no memory enforcement.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
AccountingStorageType=$acct
$tres
MailProg=/bin/true
# Nodes may claim more CPUs and memory than the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=$NODE_TIMEOUT
# A finished job stays visible to squeue this long (the plugin checks it).
MinJobAge=300
KillWait=5
SchedulerParameters=sched_min_interval=0,bf_interval=5
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/spool/%n
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd-%n.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
NodeName=node[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[17001-$((17000 + NODES))] CPUs=$CPUS_PER_NODE RealMemory=$MEM_PER_NODE Gres=gpu:$GPUS_PER_NODE
# A job in \`urgent\` takes the place of jobs in \`gpu\`.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
EOF
    echo "Name=gpu File=$STATE/gpu/gpu[0-$((GPUS_PER_NODE - 1))]" >$CONF/gres.conf
    # A changed config needs a restart. (Resizing under running jobs: untested.)
    if [ "$old" != "$(cat $CONF/slurm.conf $CONF/gres.conf)" ]; then stop_slurm; fi
    # No password: slurmdbd logs in over the local socket as unix user "slurm".
    cat >$CONF/slurmdbd.conf <<EOF
# slurm-lab: written by start_slurm.sh
DbdHost=localhost
SlurmUser=slurm
AuthType=auth/munge
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
PidFile=$RUN/slurmdbd.pid
LogFile=$LOG/slurmdbd.log
EOF
    chown slurm: $CONF/slurmdbd.conf; chmod 600 $CONF/slurmdbd.conf
}

# --- daemons, in order of dependence -----------------------------------------
start_munged() {
    install -d -o munge -g munge -m 0755 /run/munge
    install -d -o munge -g munge -m 0700 /var/log/munge /var/lib/munge
    [ -s /etc/munge/munge.key ] || runuser -u munge -- /usr/sbin/mungekey
    munge -n >/dev/null 2>&1 && return         # already served (maybe not by us)
    ln -sf /var/log/munge/munged.log $LOG/munged.log
    runuser -u munge -- /usr/sbin/munged --force --pid-file=/run/munge/munged.pid ||
        die "munged did not start" munged.log
    ln -sf /run/munge/munged.pid $RUN/munged.pid
    wait_for munged munged.log munge -n
}

start_mariadb() {
    chown mysql: $STATE/mysql
    install -d -o mysql -g mysql -m 0755 /run/mysqld
    if ! mariadb-admin -S $SOCK ping >/dev/null 2>&1; then
        [ -d $STATE/mysql/mysql ] ||
            mariadb-install-db --no-defaults --user=mysql --datadir=$STATE/mysql \
                --skip-test-db >"$LOG/mariadb-install.log" 2>&1 ||
            die "mariadb-install-db failed" mariadb-install.log
        # Own data directory, no network, little memory. setsid: outlive the caller.
        setsid -f mariadbd --no-defaults --user=mysql --datadir=$STATE/mysql \
            --socket=$SOCK --skip-networking --pid-file=/run/mysqld/slurm-lab.pid \
            --innodb-buffer-pool-size=128M --innodb-lock-wait-timeout=900 \
            </dev/null >>$LOG/mariadbd.log 2>&1
        ln -sf /run/mysqld/slurm-lab.pid $RUN/mariadbd.pid
        wait_for mariadbd mariadbd.log mariadb-admin -S $SOCK ping
    fi
    mariadb -S $SOCK -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
        CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket;
        GRANT ALL ON slurm_acct_db.* TO slurm@localhost;"
}

start_slurmdbd() {
    alive slurmdbd $RUN/slurmdbd.pid || /usr/sbin/slurmdbd ||
        die "slurmdbd did not start" slurmdbd.log
    wait_for slurmdbd slurmdbd.log sacctmgr -n list cluster
    # Registering the cluster also creates account "root" with user root in it.
    sacctmgr -n list cluster format=cluster%20 | grep -qw $CLUSTER ||
        sacctmgr -iQ add cluster $CLUSTER >/dev/null
}

start_slurmctld() {
    alive slurmctld $RUN/slurmctld.pid || /usr/sbin/slurmctld ||
        die "slurmctld did not start" slurmctld.log
    wait_for slurmctld slurmctld.log scontrol ping
}

start_slurmds() {
    local i
    for ((i = 1; i <= NODES; i++)); do
        mkdir -p $STATE/spool/node$i
        alive slurmd $RUN/slurmd-node$i.pid || nice -n "$NICE" /usr/sbin/slurmd -N node$i ||
            die "slurmd of node$i did not start (is /sys mounted?)" slurmd-node$i.log
        wait_for "slurmd of node$i" slurmd-node$i.log listening $((17000 + i))
    done
}

# Every node idle or busy with jobs, none down/unknown/not responding.
nodes_ready() {
    local n
    n=$(sinfo -hN -p gpu -o %T) || return 1
    [ "$(grep -cxE 'idle|mixed|allocated|completing' <<<"$n")" -eq "$NODES" ]
}

# --- commands ----------------------------------------------------------------
status() {
    local f name
    for f in $RUN/*.pid; do
        [ -e "$f" ] || continue
        name=$(basename "$f" .pid)
        if alive "${name%%-*}" "$f"; then echo "$name: pid $(cat "$f")"; else echo "$name: DEAD"; fi
    done
    sinfo -N -p gpu -o "%N %t %C %m %G" 2>/dev/null || true
}

start() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || die "this needs root on Debian"
    mkdir -p $LOG $RUN
    install_packages
    chown slurm: $LOG $RUN; chmod 755 $LOG $RUN
    write_config
    start_munged
    [ "$ACCOUNTING" = 0 ] || { start_mariadb; start_slurmdbd; }
    start_slurmctld; start_slurmds
    wait_for "idle nodes" slurmctld.log nodes_ready
    say "ready after ${SECONDS}s; sinfo:"
    sinfo -N -p gpu -o "%N %t %C %m %G"
}

stop_slurm() {
    local f
    for f in $RUN/slurmd-*.pid; do [ ! -e "$f" ] || stop_one slurmd "$f"; done
    stop_one slurmctld $RUN/slurmctld.pid
}

stop() {
    local i
    # Jobs first: their slurmstepd processes would outlive slurmd.
    if alive slurmctld $RUN/slurmctld.pid && timeout 10 squeue -h >/dev/null 2>&1; then
        squeue -h -o %A | sort -u | xargs -r scancel || true
        for ((i = 0; i < 40; i++)); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.5; done
    fi
    stop_slurm
    stop_one slurmdbd $RUN/slurmdbd.pid
    stop_one mariadbd $RUN/mariadbd.pid
    stop_one munged $RUN/munged.pid
    say "stopped"
}

wipe() {
    stop
    if grep -qs '^# slurm-lab' $CONF/slurm.conf; then
        rm -f $CONF/{slurm,gres,slurmdbd}.conf
    fi
    rm -rf $STATE $RUN $LOG
    say "wiped"
}

case ${1:-start} in
    start|stop|wipe|status) "${1:-start}" ;;
    *) echo "usage: $0 [start|stop|wipe|status]" >&2; exit 2 ;;
esac
