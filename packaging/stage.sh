#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts what a machine needs of a built checkout into one directory, build/stage by default: copy it to any Debian 12 of this architecture and run
# packaging/install-node.sh or packaging/install-backend.sh in it. It brings its own Node.js; Debian 12's is too old.
# Usage: stage.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "$0")/.."
stage=${1:-build/stage}
[ -f dist/src/main.js ] && [ -f native/build/Release/fairlead.node ] || { echo 'fairlead: this checkout is not built; run make' >&2; exit 1; }

rm -rf "$stage"
mkdir -p "$stage/lib/native/build/Release" "$stage/lib/build/bpf" "$stage/lib/dist" "$stage/lib/bin"
cp -r packaging "$stage/"
cp -r packaging docs "$stage/lib/"
cp package.json LICENSE README.md "$stage/lib/"
cp -r dist/src "$stage/lib/dist/"
cp build/bpf/*.bpf.o "$stage/lib/build/bpf/"
cp native/build/Release/fairlead.node "$stage/lib/native/build/Release/"
cp bin/fairlead "$stage/lib/bin/"
cp "$(node -p process.execPath)" "$stage/lib/bin/node"
# What the daemon imports, not what built it.
npm ls --omit=dev --all --parseable 2>/dev/null | sed "s|^$PWD/||" | grep '^node_modules/' |
	grep -v '/node_modules/.*/node_modules/' | tar -cf - -T - | tar -xf - -C "$stage/lib"
