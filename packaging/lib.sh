# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-3.0-or-later
# What the scripts in packaging/ share; sourced by each of them.
#
#	packaging/deb OUTDIR
#	packaging/rpm OUTDIR
#
# Each makes the agent's package from this tree, in a folder of its own beside
# the result, and prints the package's path as its only line on standard output.
# The tools say themselves what they miss.

set -Eeuo pipefail
trap 'echo "packaging/${0##*/}: failed: $BASH_COMMAND" >&2' ERR
umask 022
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -eq 1 ] || { echo "usage: packaging/${0##*/} OUTDIR" >&2; exit 1; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(sed -n "s/^  version: '\(.*\)',/\1/p" "$top/meson.build")
work=$(mktemp -d "$out/.${0##*/}.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM HUP

# The day of the last change, the same for every build of one state.
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct 2>/dev/null) ||
    SOURCE_DATE_EPOCH=$(stat -c %Y "$top/meson.build")
export SOURCE_DATE_EPOCH

# sources DIR: what a package is made from.
sources() {
	mkdir -p "$1"
	(cd "$top" && tar -cf - meson.build meson_options.txt src include man \
	    dist LICENSE README.md) | tar -xf - -C "$1"
}

# logged NAME COMMAND...: its output into OUTDIR/NAME.log, shown if it fails.
logged() {
	local log=$out/$1.log
	shift
	"$@" >"$log" 2>&1 </dev/null || {
		tail -25 "$log" >&2
		echo "all of its output: $log" >&2
		return 1
	}
}
