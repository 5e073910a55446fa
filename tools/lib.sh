# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-3.0-or-later
# What the scripts in tools/ share; sourced by each of them. Leaves the
# caller in the root of the tree.

set -Eeuo pipefail
trap 'echo "${0##*/}: failed: $BASH_COMMAND" >&2' ERR
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOP=$PWD
# Debian's own Python, which has pytest and psycopg; the one on PATH may not.
PYTHON=/usr/bin/python3

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

need_root() {
	[ "$(id -u)" -eq 0 ] || die "must run as root (containers, mounts," \
	    "firewall); try: sudo make ${0##*/}"
}

# build_tree DIR [meson options...]: configures once, then builds. A tree of
# another meson or with other options is configured again.
build_tree() {
	local dir=$1 want
	shift
	want="$(meson --version) $*"
	if [ ! -f "$dir/build.ninja" ] || \
	    [ "$(cat "$dir/.qvd-options" 2>/dev/null)" != "$want" ]; then
		rm -rf "$dir"
		mkdir -p "$dir"
		meson setup "$dir" "$@" >"$dir.log" 2>&1 || {
			cat "$dir.log" >&2
			die "meson setup failed, see above"
		}
		printf '%s\n' "$want" >"$dir/.qvd-options"
	fi
	ninja -C "$dir" >"$dir.log" 2>&1 || {
		grep -vE '^\[[0-9]+/[0-9]+\]' "$dir.log" | tail -100 >&2
		die "the build in $dir failed, see above"
	}
	link_programs "$dir"
}

build_release() {
	build_tree build/release --buildtype=debugoptimized \
	    --prefix=/usr --sysconfdir=/etc \
	    --localstatedir=/var
}

# The sanitizers are linked in, because the agent runs in images that do not
# have their libraries.
build_asan() {
	build_tree build/asan --buildtype=debug -Doptimization=1 \
	    -Db_sanitize=address,undefined \
	    "-Dc_link_args=-static-libasan -static-libubsan" --prefix=/usr \
	    --sysconfdir=/etc --localstatedir=/var
}

# link_programs DIR: all programs of a build, and the library that they look
# for beside themselves, in DIR/bin. Hard links, because programs ask
# /proc/self/exe where the others are.
link_programs() {
	mkdir -p "$1/bin"
	find "$1/src" -mindepth 2 -maxdepth 2 \( -type f -perm -100 \
	    -name 'qvd*' -o ! -type d -name 'lib*.so*' ! -name '*.symbols' \) \
	    -exec cp -alf -t "$1/bin" {} +
}
