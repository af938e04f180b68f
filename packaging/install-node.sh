#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes this machine, or the one below --root, a node of Fairlead: packages, program, user, directories, example configuration, unit.
# May be run again, for a new version too: programs and tables in the kernel stay, and configuration is not touched.
. "$(dirname "$0")/install.sh"

read_options "$@"
install_packages libbpf1 libelf1 zlib1g libstdc++6 iproute2
install_program
install_user
install_example fairlead.yaml
inside install -D -m 0644 /usr/lib/fairlead/packaging/logrotate /etc/logrotate.d/fairlead
install_unit fairlead.service
[ -e "$root/etc/fairlead/fairlead.yaml" ] || say 'to begin: write /etc/fairlead/fairlead.yaml (an example is beside it), then systemctl enable --now fairlead'
