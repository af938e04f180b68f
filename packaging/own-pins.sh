#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# As root, before a daemon that is not: a bpffs, and in it a directory of the user's own. Others may pass through /sys/fs/bpf, and list nothing there.
# Usage: own-pins.sh USER DIRECTORY [BPFFS]
set -eu
user=$1 directory=$2 bpffs=${3:-/sys/fs/bpf}

[ "$(stat -f -c %T "$bpffs")" = bpf_fs ] || mount -t bpf -o nosuid,nodev,noexec,mode=0711 bpf "$bpffs"
chmod 0711 "$bpffs"
mkdir -p -m 0700 "$bpffs/$directory"
chown -R -h "$user:" "$bpffs/$directory"
