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
content /etc/bird/bird.conf 0640 root:bird <<-END
	router id 10.9.0.254;
	protocol device { scan time 10; }
	protocol kernel {
		merge paths on limit 16;
		ipv4 { import none; export where source = RTS_BGP; };
	}
	protocol bfd { interface "*" { interval 200 ms; multiplier 5; }; }
	protocol bgp balancers {
		local 10.9.0.254 as 64513;
		neighbor range 10.9.0.0/24 as 64512;
		dynamic name "balancer_";
		passive;
		bfd on;
		hold time 9;
		ipv4 { import where net = $vip/32; export none; };
	}
END
service_up bird
