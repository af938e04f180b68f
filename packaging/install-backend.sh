#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes this machine, or the one below --root, a backend: the agent that takes the balancers' tunnels off, and what the kernel has to be told about VIPs on lo.
. "$(dirname "$0")/install.sh"

read_options "$@"
install_packages libbpf1 libelf1 zlib1g libstdc++6 iproute2
install_program
install_user
install_example agent.yaml
inside install -D -m 0644 /usr/lib/fairlead/packaging/backend.conf /etc/sysctl.d/60-fairlead.conf
[ -n "$root" ] || [ ! -d /run/systemd/system ] || sysctl -q -p /etc/sysctl.d/60-fairlead.conf
install_unit fairlead-agent.service
[ -e "$root/etc/fairlead/agent.yaml" ] || say 'to begin: write /etc/fairlead/agent.yaml (an example is beside it) and the key, then systemctl enable --now fairlead-agent'
