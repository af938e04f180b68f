# SPDX-License-Identifier: Apache-2.0
# What install-node.sh and install-backend.sh have in common; for them to read. Every step may be done again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root='' packages=yes start=no

say() { echo "fairlead: $*"; }
fail() { echo "fairlead: $*" >&2; exit 1; }
inside() { if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi; }

usage() {
	cat <<-END
	Usage: $(basename "$0") [--root DIRECTORY] [--no-packages] [--start]
	  --root DIRECTORY  install into the Debian 12 there (a chroot, an image) instead of this machine; nothing is started
	  --no-packages     Debian's packages are there already
	  --start           start the service, now and at boot
	END
}

read_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		--root) root=$(cd "${2:?--root wants a directory}" && pwd); [ "$root" != / ] || root=''; shift ;;
		--no-packages) packages=no ;;
		--start) start=yes ;;
		--help) usage; exit 0 ;;
		*) usage >&2; exit 2 ;;
		esac
		shift
	done
	[ "$(id -u)" = 0 ] || fail 'root is missing: users, packages and units are installed; run it with sudo'
	[ -z "$root" ] || [ $start = no ] || fail '--start and --root do not go together: nothing runs in there'
	grep -q '^ID=debian' "$root/etc/os-release" 2>/dev/null || fail "${root:-this machine} is no Debian"
}

install_packages() {
	[ $packages = yes ] || return 0
	local missing=() package
	for package in "$@"; do
		[ "$(inside dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	inside env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -q update && apt-get -q install -y --no-install-recommends "$@"' sh "${missing[@]}" >/dev/null
}

# The program below /usr/lib/fairlead, in one step, so that a failure on the way leaves the old one.
install_program() {
	local stage=$here/..
	if [ ! -x "$stage/lib/bin/node" ]; then
		"$here/stage.sh" && stage=$here/../build/stage
	fi
	local new=$root/usr/lib/fairlead.new
	rm -rf "$new"
	mkdir -p "$root/usr/lib" "$root/usr/bin"
	cp -r --no-preserve=ownership "$stage/lib" "$new"
	chmod -R u=rwX,go=rX "$new"
	rm -rf "$root/usr/lib/fairlead.old"
	[ ! -e "$root/usr/lib/fairlead" ] || mv "$root/usr/lib/fairlead" "$root/usr/lib/fairlead.old"
	mv "$new" "$root/usr/lib/fairlead"
	rm -rf "$root/usr/lib/fairlead.old"
	printf '#!/bin/sh\nexec /usr/lib/fairlead/bin/node /usr/lib/fairlead/bin/fairlead "$@"\n' >"$root/usr/bin/fairlead"
	chmod 0755 "$root/usr/bin/fairlead"
	inside /usr/bin/fairlead --version >/dev/null || fail 'the program does not run there; see above'
}

install_user() {
	inside getent passwd fairlead >/dev/null ||
		inside useradd --system --user-group --no-create-home --home-dir /var/lib/fairlead --shell /usr/sbin/nologin fairlead
	inside install -d -o root -g fairlead -m 0750 /etc/fairlead
	inside install -d -o fairlead -g fairlead -m 0750 /var/lib/fairlead /var/log/fairlead
}

# An example beside the place of the configuration; what the operator has written is never touched.
install_example() {
	inside install -o root -g fairlead -m 0640 "/usr/lib/fairlead/packaging/$1" "/etc/fairlead/$1.example"
}

install_unit() {
	local unit=$1
	inside install -D -m 0644 "/usr/lib/fairlead/packaging/systemd/$unit" "/lib/systemd/system/$unit"
	if [ -n "$root" ] || [ ! -d /run/systemd/system ]; then
		say "$unit is installed, and not started here"
		return 0
	fi
	systemctl daemon-reload
	if [ $start = yes ]; then
		systemctl enable --quiet "$unit"
		systemctl restart "$unit"
	fi
}
