#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of a machine that runs a guest of test/vm in node. What it prints is read by machine.ts.
export PATH=/bin
modules() {
	while read -r module; do printf '/modules/%s.ko ' "$module"; done </modules/order
}
if peer start $(modules) && mount -t devtmpfs dev /dev; then
	read -r script </guest
	node "$script" 2>&1 && echo done
fi
echo b >/proc/sysrq-trigger
