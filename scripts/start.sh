#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# npm start: installs and builds what is missing, then runs the lab with these arguments.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
[[ " $* " != *"etcd"* ]] || packages+=(etcd-server)
[[ " $* " != *"--bgp"* ]] || packages+=(bird2)
bash scripts/setup.sh start "${packages[@]}"
exec node --enable-source-maps dist/src/main.js lab run "$@"
