#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A member of the cluster's etcd, without TLS: the network behind the router is the lab's alone.
# Usage: etcd.sh NAME MEMBERS (name=address,...)
. "${FAIRLEAD_PROVISION:-/provision}/common.sh"
name=$1
address=$(tr , '\n' <<<"$2" | sed -n "s/^$name=//p")
cluster=$(sed -E 's#([a-z0-9]+)=([0-9.]+)#\1=http://\2:2380#g' <<<"$2")

packages etcd-server etcd-client
content /etc/default/etcd 0644 root:root <<-END
	ETCD_NAME=$name
	ETCD_DATA_DIR=/var/lib/etcd/fairlead
	ETCD_LISTEN_CLIENT_URLS=http://$address:2379,http://127.0.0.1:2379
	ETCD_ADVERTISE_CLIENT_URLS=http://$address:2379
	ETCD_LISTEN_PEER_URLS=http://$address:2380
	ETCD_INITIAL_ADVERTISE_PEER_URLS=http://$address:2380
	ETCD_INITIAL_CLUSTER=$cluster
	ETCD_INITIAL_CLUSTER_TOKEN=fairlead-lab
	ETCD_AUTO_COMPACTION_MODE=periodic
	ETCD_AUTO_COMPACTION_RETENTION=1h
END
# Its start waits for a second member: do not wait for that here.
if [ -d /run/systemd/system ]; then
	systemctl enable --quiet etcd
	systemctl restart --no-block etcd
fi
