#!/usr/bin/env bash
# The smoke graph through a Slurm of one node on loopback, from installing Debian's packages to the
# same table that it gives without Slurm. Needs root, for munge and slurmd; stops what it started.
#
#   make slurm-smoke
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$root/.clipmend/slurm-smoke
state=$work/daemons
conf=/etc/slurm/slurm.conf # jobs lose SLURM_CONF on their way to srun, and look here

say() { printf '%s\n' "slurm-smoke: $*" >&2; }

install_slurm() {
	command -v slurmctld slurmd sbatch munged > /dev/null && return
	say "installing slurmctld, slurmd, slurm-client and munge"
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge > /dev/null
}

start_munge() {
	munge -n < /dev/null 2> /dev/null | unmunge > /dev/null 2>&1 && return
	mkdir -p /run/munge
	chown munge: /run/munge /var/lib/munge /var/log/munge
	su -s /bin/bash munge -c munged
	stop_munge=yes
}

start_slurm() {
	if [[ -e $conf ]]; then
		say "$conf is there: this machine has a Slurm of its own, which would be replaced"
		exit 2
	fi
	rm -rf "$work"
	mkdir -p "$state/saved" "$state/spool" "$(dirname "$conf")"
	local name memory
	name=$(hostname -s)
	memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
	cat > "$conf" <<-CONF
		ClusterName=smoke
		SlurmctldHost=$name(127.0.0.1)
		SlurmUser=root
		SlurmctldPort=16817
		SlurmdPort=16818
		StateSaveLocation=$state/saved
		SlurmdSpoolDir=$state/spool
		SlurmctldPidFile=$state/slurmctld.pid
		SlurmdPidFile=$state/slurmd.pid
		SlurmctldLogFile=$state/slurmctld.log
		SlurmdLogFile=$state/slurmd.log
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core
		MinJobAge=300
		ReturnToService=2
		NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory
		PartitionName=debug Nodes=$name Default=YES MaxTime=60 State=UP
	CONF
	configured=yes
	slurmctld
	slurmd
	for _ in $(seq 30); do
		sinfo --noheader --format=%t 2> /dev/null | grep -q idle && return
		sleep 1
	done
	say "the node is not idle after 30 s; see $state"
	exit 1
}

stop_all() {
	if [[ -n ${configured:-} ]]; then # else the pids are those of an earlier run
		for daemon in slurmd slurmctld; do
			[[ ! -f $state/$daemon.pid ]] || kill "$(cat "$state/$daemon.pid")" || true
		done
		rm -f "$conf"
	fi
	[[ -z ${stop_munge:-} ]] || pkill -u munge munged || true
}

# make_table FOLDER SNAKEMAKE-ARGUMENTS...
make_table() {
	local folder=$work/$1
	shift
	mkdir -p "$folder"
	cp -R Snakefile workflow profiles "$folder"
	clipmend preset smoke --out "$folder/params.yaml"
	(cd "$folder" && snakemake "$@" all)
}

install_slurm
trap stop_all EXIT
start_munge
start_slurm
say "$(sinfo --noheader)"
make_table local --cores all
# A node without GPUs, and jobs of seconds: the cluster's own values are overridden.
make_table cluster --profile workflow/profiles/slurm --jobs "$(nproc)" --latency-wait 10 \
	--default-resources slurm_partition=debug runtime=10 mem_mb=1000 \
	--set-resources download:runtime=10 --set-threads download=1 \
	--slurm-init-seconds-before-status-checks 1 --seconds-between-status-checks 1
for file in cells.csv table.md detectors.csv; do
	cmp "$work/local/results/report/$file" "$work/cluster/results/report/$file"
done
say "$(find "$work/cluster/results" -name card.json | wc -l) cells; the tables of both are the same"
