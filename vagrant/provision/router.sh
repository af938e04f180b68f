#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The router: forwards, takes the VIP from whatever balancers announce it, and spreads flows over them by addresses and ports.
# Usage: router.sh VIP
. "${FAIRLEAD_PROVISION:-/provision}/common.sh"
vip=$1

packages bird2
content /etc/sysctl.d/60-fairlead.conf 0644 root:root <<-END
	net.ipv4.ip_forward = 1
	net.ipv4.fib_multipath_hash_policy = 1
	net.ipv4.conf.all.rp_filter = 0
	net.ipv4.conf.default.rp_filter = 0
END
[ ! -d /run/systemd/system ] || sysctl -q -p /etc/sysctl.d/60-fairlead.conf
content /etc/bird/local.conf 0640 root:bird <<-END
	define ROUTER_ID = 10.9.0.254;
	define LOCAL_AS = 64513;
	define LOCAL_IPV4 = 10.9.0.254;
	define LOCAL_IPV6 = fd00:9::fe; # no machine has IPv6 here: that session stays down
	define BALANCER_AS = 64512;
	define BALANCERS_IPV4 = 10.9.0.0/24;
	define BALANCERS_IPV6 = fd00:9::/64;
	define VIPS_IPV4 = [ $vip/32 ];
	define VIPS_IPV6 = [ 2001:db8::10/128 ];
	define BFD_INTERVAL = 200;
	define BFD_MULTIPLIER = 5;
END
content /etc/bird/bird.conf 0640 root:bird <"$stage/packaging/bird/router.conf"
service_up bird
