#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A balancer: a node of Fairlead with its store in etcd, and BIRD that announces the VIPs it says are ready.
# Usage: balancer.sh NAME ADDRESS MEMBERS (name=address,...)
. "${FAIRLEAD_PROVISION:-/provision}/common.sh"
name=$1 address=$2
endpoints=$(sed -E 's#[a-z0-9]+=([0-9.]+)#http://\1:2379#g; s/,/, /g' <<<"$3")
interface=$(interface_of "$address")

packages bird2
"$stage/packaging/install-node.sh"
content /etc/fairlead/fairlead.yaml 0640 root:fairlead <<-END
	node: $name
	interfaces: [{ name: $interface, xdp: auto }]
	tunnel: { source: $address }
	store: { type: etcd, endpoints: [$endpoints] }
	announce: { table: 200 }
	api: { audit: /var/log/fairlead/audit.jsonl }
END
content /etc/bird/local.conf 0640 root:bird <<-END
	define ROUTER_ID = $address;
	define FAIRLEAD_TABLE = 200;
	define FAIRLEAD_PROTOCOL = 76;
	define LOCAL_AS = 64512;
	define LOCAL_IPV4 = $address;
	define LOCAL_IPV6 = fd00:9::${address##*.}; # no machine has IPv6 here: that session stays down
	define ROUTER_AS = 64513;
	define ROUTER_IPV4 = 10.9.0.254;
	define ROUTER_IPV6 = fd00:9::fe;
	define BFD_INTERVAL = 200;
	define BFD_MULTIPLIER = 5;
END
content /etc/bird/bird.conf 0640 root:bird <"$stage/packaging/bird/balancer.conf"
service_up fairlead
service_up bird
