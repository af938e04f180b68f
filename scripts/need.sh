#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Before npm builds the addon: the one thing it needs that npm cannot bring.
[ -f /usr/include/bpf/libbpf.h ] || {
	echo 'fairlead: libbpf-dev is missing: install it with apt-get, or run "sudo npm start", which does' >&2
	exit 1
}
