#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A backend: a web server that tells its name, and Fairlead's agent, which smoke.sh gives its key and starts.
# Usage: backend.sh NAME ADDRESS VIP
. "${FAIRLEAD_PROVISION:-/provision}/common.sh"
name=$1 address=$2 vip=$3
interface=$(interface_of "$address")

packages python3
"$stage/packaging/install-backend.sh"
content /etc/fairlead/agent.yaml 0640 root:fairlead <<-END
	interfaces: [{ name: $interface, xdp: auto }]
	balancers: [10.9.0.10/32, 10.9.0.11/32]
	vips: [$vip]
	keyFile: /etc/fairlead/agent.key
END
content /srv/lab/index.html 0644 root:root <<<"$name"
content /etc/systemd/system/lab-web.service 0644 root:root <<-END
	[Service]
	ExecStart=/usr/bin/python3 -m http.server 80 --directory /srv/lab
	DynamicUser=yes
	AmbientCapabilities=CAP_NET_BIND_SERVICE
	[Install]
	WantedBy=multi-user.target
END
service_up lab-web
