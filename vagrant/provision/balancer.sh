#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A balancer: a node of Fairlead with its store in etcd, and BIRD that announces the VIP.
# Usage: balancer.sh NAME ADDRESS VIP MEMBERS (name=address,...)
. "${FAIRLEAD_PROVISION:-/provision}/common.sh"
name=$1 address=$2 vip=$3
endpoints=$(sed -E 's#[a-z0-9]+=([0-9.]+)#http://\1:2379#g; s/,/, /g' <<<"$4")
interface=$(interface_of "$address")

packages bird2
"$stage/packaging/install-node.sh"
content /etc/fairlead/fairlead.yaml 0640 root:fairlead <<-END
	node: $name
	interfaces: [{ name: $interface, xdp: auto }]
	tunnel: { source: $address }
	store: { type: etcd, endpoints: [$endpoints] }
	api: { audit: /var/log/fairlead/audit.jsonl }
END
content /etc/bird/bird.conf 0640 root:bird <<-END
	router id $address;
	protocol device { scan time 10; }
	protocol bfd { interface "*" { interval 200 ms; multiplier 5; }; }
	protocol static vips { ipv4; route $vip/32 unreachable; }
	protocol bgp upstream {
		local $address as 64512;
		neighbor 10.9.0.254 as 64513;
		bfd on;
		hold time 9;
		connect delay time 1;
		connect retry time 2;
		ipv4 { import none; export where source = RTS_STATIC; next hop self; };
	}
END
service_up fairlead
service_up bird
