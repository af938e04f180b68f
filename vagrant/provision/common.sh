# SPDX-License-Identifier: Apache-2.0
# For the other scripts to read. Each may run again; in a chroot nothing is started.
set -euo pipefail
stage=${FAIRLEAD_STAGE:-/fairlead}

packages() {
	local missing=() package
	for package in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} -eq 0 ] || DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -q update && apt-get -q install -y --no-install-recommends "$@"' sh "${missing[@]}" >/dev/null
}

# The interface that has this address.
interface_of() {
	local found
	found=$(ip -o -4 address show | awk -v address="$1" 'index($4, address "/") == 1 { print $2 }')
	[ -n "$found" ] || { echo "no interface has $1" >&2; exit 1; }
	echo "$found"
}

# Makes standard input the file, with this mode and owner; says whether that changed something.
content() {
	local path=$1 mode=$2 owner=$3 new
	new=$(mktemp)
	cat >"$new"
	if cmp -s "$new" "$path"; then rm "$new"; return; fi
	install -D -m "$mode" -o "${owner%:*}" -g "${owner#*:}" "$new" "$path"
	rm "$new"
	echo "wrote $path"
}

# Starts a service, or starts it anew for its new configuration.
service_up() {
	[ -d /run/systemd/system ] || { echo "$1 is not started here"; return 0; }
	systemctl daemon-reload
	systemctl enable --quiet "$1"
	systemctl restart "$1"
}
