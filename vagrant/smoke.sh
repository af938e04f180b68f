#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The lab's scenario on the machines of "vagrant up": spread, drain, a balancer and a member of etcd that die. One line a check; exits 1 when one fails.
set -uo pipefail
cd "$(dirname "$0")"
vip=192.0.2.10 failed=0

on() { local machine=$1; shift; vagrant ssh "$machine" -c "$*" 2>/dev/null | tr -d '\r'; }
check() {
	local what=$1; shift
	if "$@"; then echo "PASS  $what"; else echo "FAIL  $what"; failed=1; fi
}
# So many requests, each by a connection of its own: a line for each, the backend's name or "failed".
requests() { on client "for i in \$(seq $1); do curl -sf -m 3 http://$vip/ || echo failed; done"; }
count() { grep -c "^$1\$" <<<"$2" || true; }
within() { # SECONDS COMMAND...
	local end=$((SECONDS + $1)); shift
	until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 1; done
}
ready() { on "$1" sudo curl -sf --unix-socket /run/fairlead/api.sock http://x/readyz | grep -q '"ready":true'; }
paths() { [ "$(on router ip route show $vip | grep -c 10.9.0.)" = "$1" ]; }

for lb in lb1 lb2; do check "$lb is ready" within 60 ready $lb; done
key=$(on lb1 sudo fairlead agent key)
for be in be1 be2 be3; do
	on $be "echo $key | sudo install -m 0640 -o root -g fairlead /dev/stdin /etc/fairlead/agent.key; sudo systemctl enable --quiet fairlead-agent; sudo systemctl restart fairlead-agent"
done
on lb1 sudo fairlead pools put web --backend be1=10.9.0.21 --backend be2=10.9.0.22 --backend be3=10.9.0.23 >/dev/null
on lb1 sudo fairlead services put web --address $vip --port 80 --protocol tcp --pool web --forwarding gue --wait >/dev/null
check 'the other balancer has the service, too' within 10 sh -c "vagrant ssh lb2 -c 'sudo fairlead services get web' >/dev/null 2>&1"
check 'the router has a way by each balancer' within 30 paths 2

answers=$(requests 300)
check 'spread: no request failed' [ "$(count failed "$answers")" = 0 ]
for be in be1 be2 be3; do check "spread: $be has answered" [ "$(count $be "$answers")" -ge 50 ]; done

on lb1 sudo fairlead backends drain web be2 >/dev/null
sleep 1
answers=$(requests 100)
check 'drain: no request failed' [ "$(count failed "$answers")" = 0 ]
check 'drain: be2 gets no new connection' [ "$(count be2 "$answers")" = 0 ]
on lb1 sudo fairlead backends undrain web be2 >/dev/null
sleep 1
check 'undrain: be2 answers again' [ "$(count be2 "$(requests 100)")" -ge 10 ]

on lb2 sudo systemctl restart fairlead >/dev/null &
answers=$(requests 200)
wait
check 'restart of a daemon: no request failed' [ "$(count failed "$answers")" = 0 ]

on lb2 'sudo systemctl kill -s KILL bird; sudo systemctl stop bird; sudo systemctl stop fairlead; sudo fairlead detach' >/dev/null
check 'a balancer that died is out' within 10 paths 1
answers=$(requests 100)
check 'a balancer that died: no request fails afterwards' [ "$(count failed "$answers")" = 0 ]
on lb2 'sudo systemctl start fairlead bird' >/dev/null
check 'it comes back' within 60 paths 2

on be1 sudo systemctl stop etcd >/dev/null
check 'without one member of etcd writes go on' on lb1 sudo fairlead backends weight web be1 90
on be1 sudo systemctl start etcd >/dev/null
exit $failed
