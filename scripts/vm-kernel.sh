#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the kernel that test/vm boots: Debian's cloud kernel, unpacked to build/vm and not installed, so that
# nothing here changes what this machine boots. Fails where the package sources have none.
set -euo pipefail
cd "$(dirname "$0")/.."
[ ! -e build/vm/modules/cls_bpf.ko ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() {
	local package
	package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p') &&
		[ -n "$package" ] && (cd "$work" && apt-get download -o APT::Sandbox::User=root "$package")
}
# Lists that are old name a file that is gone.
{ fetch || { apt-get update && fetch; }; } >"$work/log" 2>&1 || { tail -n 3 "$work/log" >&2; exit 1; }

dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work" --wildcards './boot/vmlinuz-*' \
	'./lib/modules/*/kernel/net/ipv[46]/*.ko' './lib/modules/*/kernel/drivers/net/veth.ko' \
	'./lib/modules/*/kernel/net/sched/cls_bpf.ko' './lib/modules/*/kernel/net/sched/sch_ingress.ko'
mkdir -p build/vm/modules
find "$work/lib" -name '*.ko' -exec mv -t build/vm/modules {} +
mv "$work"/boot/vmlinuz-* build/vm/vmlinuz
