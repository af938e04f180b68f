#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes this checkout ready to run: says in one sentence what cannot be had, installs what is missing, builds
# what changed. Does nothing, in under two seconds, when all is there.
# Usage: setup.sh start|test|bench [PACKAGE...]
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
	echo "fairlead: $1" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || fail "root is missing: programs are loaded into the kernel and network namespaces made; run it with sudo"
# One array map of one element through bpf(2), with nothing but the perl that every Debian has.
perl -e '
	my %number = (x86_64 => 321, aarch64 => 280);
	chomp(my $machine = `uname -m`);
	my $attr = pack("L4 x112", 2, 4, 4, 1);
	my $fd = syscall($number{$machine} // 0, 0, $attr, length $attr);
	if ($fd < 0) { print STDERR "fairlead: BPF is missing: this kernel or container refuses to make a BPF map ($!)\n"; exit 1; }
' || exit 1

packages=(bpftool clang-19 ethtool g++ iproute2 libbpf-dev libelf-dev make python3 zlib1g-dev)
[ "${1:-start}" != test ] || packages+=(bind9-dnsutils bird2 clang-format-19 curl debootstrap etcd-client etcd-server fish iperf3 iputils-ping iputils-tracepath nftables procps openssl qemu-system-x86 socat strace systemd tcpdump traceroute tshark vagrant zsh)
[ "${1:-start}" != bench ] || packages+=(iperf3 nftables procps wrk)
packages+=("${@:2}")
missing=()
for package in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || fail "these packages are missing, and this is no Debian to install them on: ${missing[*]}"
	echo "fairlead: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
		{ tail -n 20 "$log" >&2; fail "apt-get could not install ${missing[*]}"; }
	rm -f "$log"
fi

if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	echo "fairlead: installing the npm packages and building the addon"
	npm ci --include=dev --no-progress --loglevel=error >&2
	touch node_modules/.package-lock.json
fi
make --silent --jobs=2 all
[ "${1:-start}" != test ] || bash scripts/vm-kernel.sh ||
	echo "fairlead: no Debian kernel to be had here: the tests in a machine of their own are skipped" >&2
