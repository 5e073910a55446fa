# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# For recipes of Debian images; sourced.

SUITE=bookworm

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

# debian_tar OUT.tar RECIPE_DIR: packages from RECIPE_DIR/packages (comments
# with #), files from RECIPE_DIR/files over them, then RECIPE_DIR/hook with
# the root's path. No devices, no package lists, no manuals; translations for
# the languages that we ship (en, es).
debian_tar() {
	local out=$1 dir=$2 packages sources tmp

	packages=$(sed 's/#.*//' "$dir/packages" | xargs | tr ' ' ,)
	tmp=$(dirname "$out")
	debian_sources >"$tmp/sources.list"
	[ -s "$tmp/sources.list" ] && sources=$tmp/sources.list || sources=
	TMPDIR=$tmp mmdebstrap --mode=root --variant=minbase --format=tar \
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
	    "$SUITE" "$out" ${sources:+"$sources"}
	# An empty /dev, which the node fills.
	mkdir -p "$tmp/empty/dev"
	tar -C "$tmp/empty" --owner=0 --group=0 -rf "$out" ./dev
}
