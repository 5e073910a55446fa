# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# For recipes of Debian images; sourced.

SUITE=bookworm

# The date of whatever a build makes: the suite's release. Those scripts of
# packages that write a date ask for it (accounts' last changes, compiled
# Python), so that a build tomorrow gives the same files. Never 0: an account
# of that day must change its password.
export SOURCE_DATE_EPOCH=1686355200

# What decides over the result beside the recipe's own files.
debian_key() { echo "debian $SUITE"; }

# The machine's own sources of Debian, one a line, so that images come from
# the mirror, and with the security updates, that its administrator chose.
# None: mmdebstrap's default, which includes both.
debian_sources() {
	# shellcheck disable=SC2016 # apt's variables
	apt-get indextargets 'Created-By: Packages' \
	    --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' |
	    awk -v s="$SUITE" '$4 == "main" &&
		($3 == s || $3 == s "-updates" || $3 == s "-security")' |
	    sort -u
}

# debian_builders ROOT FILE: is the image's FILE missing, or the builder's?
debian_builders() {
	[ ! -L "$1$2" ] && { [ ! -e "$1$2" ] || cmp -s "$2" "$1$2"; }
}

# debian_clean ROOT: takes away what says when, where and in what order an
# image was built (but for the sources of its packages, which an administrator
# chose for its desktops, too), and looks that nobody may change it.
debian_clean() {
	local root=$1 bad

	# A machine's identity is made at its first start, never shared.
	: >"$root/etc/machine-id"
	rm -f "$root/var/lib/dbus/machine-id"
	# These two are the builder's, unless the recipe has its own; a node
	# gives its desktops theirs.
	if debian_builders "$root" /etc/hostname; then
		rm -f "$root/etc/hostname"
		printf 'localhost\n' >"$root/etc/hostname"
	fi
	if debian_builders "$root" /etc/resolv.conf; then
		rm -f "$root/etc/resolv.conf"
		: >"$root/etc/resolv.conf"
	fi

	# Caches, logs, and what files were before a script changed them.
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* \
	    "$root"/var/log/apt "$root"/var/cache/debconf/*-old \
	    "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/aux-cache \
	    "$root"/etc/{passwd,group,shadow,gshadow,subuid,subgid}-
	find "$root/var/log" -type f -size +0 -delete
	install -d -m 700 "$root/var/lib/apt/lists/partial"

	# The fonts' caches are of folders' dates, which are now what they will
	# be in the tar; fc-cache throws away those of later ones.
	find "$root" \( -path "$root/proc" -o -path "$root/sys" -o \
	    -path "$root/dev" \) -prune -o \
	    -type d -newermt "@$SOURCE_DATE_EPOCH" \
	    -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
	[ ! -x "$root/usr/bin/fc-cache" ] ||
	    chroot "$root" fc-cache --system-only --force

	# Nothing of the image may be writable by everybody but the usual places.
	bad=$(find "$root" -xdev ! -type l -perm -002 ! -path "$root/tmp*" \
	    ! -path "$root/var/tmp*" ! -path "$root/run/lock*" \
	    ! -path "$root/dev*" ! -path "$root/proc*" ! -path "$root/sys*")
	[ -z "$bad" ] || { printf 'writable by all: %s\n' "$bad" >&2; return 1; }
}

# debian_tar OUT.tar RECIPE_DIR: packages from RECIPE_DIR/packages (comments
# with #), files from RECIPE_DIR/files over them, then RECIPE_DIR/hook with
# the root's path. No devices, no package lists, no manuals; translations for
# the languages that we ship (en, es). The same packages give the same tar,
# byte for byte.
debian_tar() {
	local out=$1 dir=$2 packages sources tmp self=${BASH_SOURCE[0]}

	packages=$(sed 's/#.*//' "$dir/packages" | xargs | tr ' ' ,)
	tmp=$(dirname "$out")
	debian_sources >"$tmp/sources.list"
	[ -s "$tmp/sources.list" ] && sources=$tmp/sources.list || sources=
	# Only the system's own programs, and no time zone: an image is the same
	# whoever builds it.
	env --unset=TZ PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR="$tmp" \
	    mmdebstrap --mode=root --variant=minbase --format=tar \
	    --skip=output/dev \
	    --aptopt='APT::Install-Recommends "false"' \
	    --aptopt='Acquire::Languages "none"' \
	    --dpkgopt=force-unsafe-io \
	    --dpkgopt='path-exclude=/usr/share/man/*' \
	    --dpkgopt='path-exclude=/usr/share/info/*' \
	    --dpkgopt='path-exclude=/usr/share/doc/*' \
	    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	    --dpkgopt='path-exclude=/usr/share/locale/*' \
	    --dpkgopt='path-include=/usr/share/locale/en*' \
	    --dpkgopt='path-include=/usr/share/locale/es*' \
	    --dpkgopt='path-include=/usr/share/locale/locale.alias' \
	    --include="$packages" \
	    --customize-hook="cp -a --no-preserve=ownership \
		'$dir/files/.' \"\$1/\"" \
	    --customize-hook="'$dir/hook' \"\$1\"" \
	    --customize-hook="bash -euc '. \"\$0\"; debian_clean \"\$1\"' \
		'$self' \"\$1\"" \
	    "$SUITE" "$out" ${sources:+"$sources"}
	# An empty /dev, which the node fills.
	mkdir -p "$tmp/empty/dev"
	tar -C "$tmp/empty" --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
	    -rf "$out" ./dev
}
