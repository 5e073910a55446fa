# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# For recipes of further desktops; sourced by their `make`, from images/NAME.
#
# A desktop is the demonstration's (images/demo) with another window manager:
# language, looks, wallpaper, terminal and last touches are taken from there
# and kept nowhere else. Its folder has
#
#	packages	what the desktop has instead of the demo's
#	files/		over the demo's
#	needs		files that the image must have, one a line
#	off		optional: names in /etc/xdg/autostart that nobody on a
#			server needs (removed; dpkg never brings them back)
#
# and its `make` says what the session runs, and which parts it shares with
# others: folders of the same form in images/parts, without a `make`.
images=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=images/debian.sh
. "$images/debian.sh"

# What is taken from the demo's files.
DESKTOP_FILES=(etc/default/locale etc/gtk-2.0 etc/gtk-3.0 etc/qvd/Xresources
    etc/qvd/session usr/share/qvd)

# desktop_key PART...: what the result depends on beside the recipe's folder.
desktop_key() {
	debian_key
	(cd "$images" && find desktop.sh demo "$@" -type f ! -name '*~' \
	    -printf '%m ' -exec sha256sum {} \; | LC_ALL=C sort -k 3)
}

# desktop_parts FILE HEADING...: those paragraphs of a file of the demo's whose
# first line is a comment that begins so.
desktop_parts() {
	local file=$images/demo/$1 heading
	shift
	for heading; do
		awk -v RS= -v h="# $heading" 'index($0, h) == 1 {
			print $0 "\n"; found = 1
		} END { exit !found }' "$file" || {
			echo "$file: no paragraph '# $heading'" >&2
			return 1
		}
	done
}

# desktop_session FILE NAME COMMAND: makes the demo's session another's.
desktop_session() {
	local id=${2,,}
	sed -i -e "s|XDG_CURRENT_DESKTOP=Openbox|XDG_CURRENT_DESKTOP=$2|" \
	    -e "s|DESKTOP_SESSION=openbox|DESKTOP_SESSION=$id|" \
	    -e "s|^exec dbus-run-session -- .*|exec dbus-run-session -- $3|" "$1"
	grep -q "XDG_CURRENT_DESKTOP=$2 DESKTOP_SESSION=$id\$" "$1" &&
	    grep -q "^exec dbus-run-session -- $3\$" "$1" || {
		echo "the demo's session has another form than expected" >&2
		return 1
	}
}

# desktop_join FILE DIR...: that file of all of the folders that have it.
desktop_join() {
	local file=$1 dir
	shift
	for dir; do
		[ ! -e "$dir/$file" ] || cat "$dir/$file"
	done
}

# desktop_hook DIR...: the demo's last touches without those of Openbox.
desktop_hook() {
	printf '#!/bin/bash\nset -euo pipefail\nroot=$1\n\n'
	desktop_parts hook 'Locales'
	printf '# Off by policy. A name that is not there is a mistake here.\n'
	printf 'while read -r f; do\n'
	printf '\trm "$root/etc/xdg/autostart/$f.desktop"\n'
	printf 'done <<END\n'
	desktop_join off "$@"
	printf 'END\n\n# Settings of our own (*.gschema.override).\n'
	printf 'schemas=$root/usr/share/glib-2.0/schemas\n'
	printf 'if compgen -G "$schemas/*.override" >/dev/null; then\n'
	printf '\tchroot "$root" sh -c "/usr/lib/*/glib-2.0/%s --strict %s"\n' \
	    glib-compile-schemas /usr/share/glib-2.0/schemas
	printf 'fi\n\n# What a session needs is there.\nwhile read -r f; do\n'
	printf '\t[ -e "$root$f" ] || [ -L "$root$f" ] ||\n'
	printf '\t    { echo "missing in the image: $f" >&2; exit 1; }\n'
	printf 'done <<END\n/etc/qvd/session\n/usr/bin/nxagent\n'
	desktop_join needs "$@"
	printf 'END\n'
}

# desktop_make ARG RECIPE_DIR NAME COMMAND [PART...]: all of a recipe's `make`.
# NAME is what freedesktop.org calls the desktop, COMMAND what the session
# runs: it ends with it.
desktop_make() {
	local arg=$1 name=$3 command=$4 recipe dir dirs
	local parts=(desktop "${@:5}")

	parts=("${parts[@]/#/parts/}")
	if [ "$arg" = --key ]; then
		desktop_key "${parts[@]}"
		return
	fi
	dirs=("${parts[@]/#/$images/}" "$2")
	recipe=$(dirname "$arg")/recipe
	mkdir -p "$recipe/files"
	(cd "$images/demo/files" && cp -a --parents "${DESKTOP_FILES[@]}" \
	    "$recipe/files/")
	desktop_session "$recipe/files/etc/qvd/session" "$name" "$command"
	desktop_parts packages 'What the agent' 'What a user' \
	    >"$recipe/packages"
	for dir in "${dirs[@]}"; do
		[ ! -d "$dir/files" ] ||
		    cp -a "$dir/files/." "$recipe/files/"
	done
	desktop_join packages "${dirs[@]}" >>"$recipe/packages"
	desktop_hook "${dirs[@]}" >"$recipe/hook"
	chmod 755 "$recipe/hook"
	debian_tar "$arg" "$recipe"
}
