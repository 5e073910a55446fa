# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-3.0-or-later
# What tools/demo and tools/demo-stop share: where the demonstration farm
# lives. Sourced after lib.sh.

DEMO=$TOP/build/demo          # what people and scripts look at
TREE=$(printf %s "$TOP" | cksum | cut -d ' ' -f 1)
NAME=qvddemo-$TREE            # of its cgroup and network namespace
PROGRAMS=$TOP/build/release/bin
DATA=$DEMO/data
RUN=$DEMO/run

# Daemons, PostgreSQL and containers run as other users, who must be able to
# get there; and a unix socket's path has at most 107 bytes.
if [ ${#RUN} -gt 60 ] || ! setpriv --reuid=65534 --regid=65534 \
    --clear-groups test -x "$TOP" 2>/dev/null; then
	DATA=/var/lib/$NAME
	RUN=/run/$NAME
	PROGRAMS=$DATA.bin
fi

# farm_pid: the pid of the demonstration's `qvd up`, nothing if it doesn't
# run. The pid file also has its start time: pids are used again.
farm_pid() {
	local pid start

	[ -r "$DEMO/pid" ] && read -r pid start <"$DEMO/pid" || return 1
	[ "$(start_time "$pid")" = "$start" ] || return 1
	printf '%s\n' "$pid"
}

start_time() {
	sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

cgroups() {
	find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$NAME"
}
