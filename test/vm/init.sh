#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the machine of test/vm: a backend as Linux has it, with tunnel devices and VIPs on lo.
# What it prints is read by machine.ts. Frames come in at `in`, the other end of eth0.
ready() {
	peer start $(cat_modules) &&
	for name in all default; do
		peer set /proc/sys/net/ipv4/conf/$name/rp_filter 0 || return
	done &&
	peer set /proc/sys/net/ipv4/tcp_synack_retries 0 && # one answer for one SYN
	ip -batch /network
}
cat_modules() {
	while read -r module; do printf '/modules/%s.ko ' "$module"; done </modules/order
}
export PATH=/bin
if ready; then
	while read -r name count; do peer run "$name" in "/frames/$name" "$count"; done </frames/runs
	while read -r line; do load $line; done </objects
	echo done
fi
echo b >/proc/sysrq-trigger
