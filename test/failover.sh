#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The whole story of a failover, told from the shell, before it is trusted with a
# real device: three zones send through a 32-queue device of this script's own; one
# is failed by hand and recovered, one falls silent, one falls silent while nobody
# minds the product. Says what it does and sees, and ends with one line,
# VERDICT: PASS or VERDICT: FAIL: reason.
#
#     test/failover.sh               needs root; takes about half a minute
#     WATCH=off test/failover.sh     without silence_ms: must end with FAIL
#     SILENCE_MS=100 test/failover.sh
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
vnicctl=$root/bin/vnicctl
node=$root/node_modules/.bin/node
watch=${WATCH:-on}
silence_ms=${SILENCE_MS:-200}
port=7000
flows=24
rate=600 # packets a second of each zone

guest=vnic-story-guest-$$
peer=vnic-story-peer-$$
folder=$(mktemp -d /tmp/vnic-story-XXXXXX)
export VNIC_STATE_DIR=$folder/state VNIC_SOCKET=$folder/vnicd.sock EXPORTER_PORT=0 NO_COLOR=1 LC_ALL=C
export PATH=$PATH:/usr/sbin:/sbin
daemon=
receiver=
declare -A senders=()
declare -A addresses=([az-a]=10.1.0.2 [az-b]=10.2.0.2 [az-c]=10.3.0.2 [elsewhere]=10.9.0.2)
failure=

step() { printf '\n%s\n' "$*"; }
say() { printf '  %s\n' "$*"; }
fail() {
	failure=$*
	exit 1
}

stop() {
	local pid=$1
	[ -n "$pid" ] || return 0
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
}

finish() {
	local code=$? zone
	trap - EXIT
	set +e
	for zone in "${!senders[@]}"; do stop "${senders[$zone]}"; done
	stop "$receiver"
	stop "$daemon"
	if [ -e "/sys/fs/bpf/vnic/vnic0@$guest" ]; then
		"$vnicctl" --netns "$guest" --yes detach vnic0 --force >/dev/null 2>&1
		rm -rf "/sys/fs/bpf/vnic/vnic0@$guest"
	fi
	ip netns del "$guest" 2>/dev/null
	ip netns del "$peer" 2>/dev/null
	if [ -n "$failure" ] && [ -s "$folder/vnicd.log" ]; then
		step 'The last lines of the daemon'
		grep -v '"msg":"request"' "$folder/vnicd.log" | tail -n 8
	fi
	rm -rf "$folder"
	printf '\n'
	if [ "$code" -eq 0 ]; then
		printf 'VERDICT: PASS\n'
	else
		printf 'VERDICT: FAIL: %s\n' "${failure:-a command ended with $code}"
	fi
	exit "$code"
}
trap finish EXIT
trap 'failure=interrupted; exit 130' INT TERM HUP

# --- what is looked at -------------------------------------------------------

ctl() { "$vnicctl" --netns "$guest" "$@"; }
# Evaluates an expression over the JSON on stdin, which it calls d.
pick() { "$node" -p "const d = JSON.parse(require('node:fs').readFileSync(0, 'utf8')); $1"; }
az_field() { ctl -o json az list vnic0 | pick "d.find((az) => az.name === '$1')['$2'] ?? '-'"; }
# Packets that were steered to a zone's queues since the device was attached.
steered() { ctl -o json queues vnic0 | pick "d.filter((q) => q.az === '$1').reduce((sum, q) => sum + Number(q.steeredPackets), 0)"; }
# received, missing or reordered of a zone.
arrived() { pick "(d['${addresses[$1]}'] ?? {})['$2'] ?? 0" <"$folder/arrived.json"; }

now_ms() { date +%s%3N; }

# Waits until a command succeeds; says in vain for how long it waited.
await() {
	local what=$1 limit_s=$2 deadline
	shift 2
	deadline=$(($(now_ms) + limit_s * 1000))
	until "$@"; do
		[ "$(now_ms)" -lt "$deadline" ] || fail "$what (waited $limit_s s)"
		sleep 0.05
	done
}

az_is() { [ "$(az_field "$1" state)" = "$2" ]; }
comes() { [ "$(arrived "$1" received)" -gt "${2:-0}" ]; }
is_ready() {
	"$node" -e '
		require("node:http")
			.get({ socketPath: process.env.VNIC_SOCKET, path: "/readyz" }, (r) => process.exit(r.statusCode === 200 ? 0 : 1))
			.on("error", () => process.exit(1));'
}

# The zone's queues take no packet of anybody any more.
is_idle() {
	local before after
	before=$(steered "$1")
	sleep 0.3
	after=$(steered "$1")
	[ "$before" = "$after" ]
}

# --- what is done ------------------------------------------------------------

zone_starts() {
	nsenter --net="/run/netns/$peer" "$node" "$root/test/support/zone-traffic.ts" \
		send "${addresses[$1]}" 10.9.0.1 $port $flows $rate &
	senders[$1]=$!
}

zone_dies() {
	stop "${senders[$1]}"
	senders[$1]=
}

daemon_starts() {
	"$vnicctl" serve >>"$folder/vnicd.log" 2>&1 &
	daemon=$!
	await 'the daemon does not get ready' 20 is_ready
}

make_rig() {
	ip netns add "$guest"
	ip netns add "$peer"
	for namespace in "$guest" "$peer"; do
		nsenter --net="/run/netns/$namespace" sh -c \
			'for scope in all default; do echo 1 >/proc/sys/net/ipv6/conf/$scope/disable_ipv6; done'
	done
	ip -n "$guest" link add vnic0 address 02:00:00:00:09:01 numtxqueues 32 numrxqueues 32 type veth \
		peer name peer0 address 02:00:00:00:09:02 netns "$peer" numtxqueues 32 numrxqueues 32
	nsenter --net="/run/netns/$peer" ethtool -K peer0 tx off >/dev/null
	ip -n "$guest" link set vnic0 up
	ip -n "$peer" link set peer0 up
	ip -n "$guest" addr add 10.9.0.1/16 dev vnic0
	ip -n "$guest" route add 10.0.0.0/8 dev vnic0
	ip -n "$peer" addr add 10.9.0.2/16 dev peer0
	for zone in az-a az-b az-c; do ip -n "$peer" addr add "${addresses[$zone]}/32" dev peer0; done
	ip -n "$peer" neigh add 10.9.0.1 lladdr 02:00:00:00:09:01 dev peer0
}

write_config() {
	local silence=
	[ "$watch" = off ] || silence=", silence_ms: $silence_ms, silence_floor_pps: 100"
	cat >"$folder/vnic.yaml" <<-END
		devices:
		  vnic0:
		    num_queues: 32
		    azs:
		      - {name: az-a, queues: 0-10, prefixes: [10.1.0.0/16]$silence}
		      - {name: az-b, queues: 11-21, prefixes: [10.2.0.0/16]$silence}
		      - {name: az-c, queues: 22-31, prefixes: [10.3.0.0/16]$silence}
	END
}

# --- the story ---------------------------------------------------------------

[ "$(id -u)" -eq 0 ] || fail 'it must be run as root'
[ -x "$node" ] || fail "there is no $node: run make build"

step "1. A device with 32 queues in $guest, a daemon, three zones and some traffic of no zone"
make_rig
write_config
ctl config check "$folder/vnic.yaml" | sed 's/^/  /'
daemon_starts
ctl attach vnic0 --config "$folder/vnic.yaml" | sed 's/^/  /'
nsenter --net="/run/netns/$guest" "$node" "$root/test/support/zone-traffic.ts" \
	receive 10.9.0.1 $port "$folder/arrived.json" &
receiver=$!
await 'the receiver does not start' 10 test -s "$folder/arrived.json"
for zone in az-a az-b az-c elsewhere; do zone_starts "$zone"; done
for zone in az-a az-b az-c elsewhere; do await "nothing arrives from $zone" 10 comes "$zone" 200; done
say "$(arrived az-a flows) flows of each zone arrive, each on a queue of its zone"

step '2. az-b is failed by hand, and recovered'
change=$(ctl -o json az fail az-b vnic0)
say "$(pick d.moved <<<"$change") buckets moved, $(pick d.collateral <<<"$change") collateral, switched in $(pick d.commitNs <<<"$change") ns"
[ "$(pick d.collateral <<<"$change")" = 0 ] || fail 'a bucket moved that was not on a queue of az-b'
[ "$(az_field az-b cause)" = manual ] || fail "az-b is $(az_field az-b state), cause $(az_field az-b cause)"
await 'packets still go to queues of az-b' 5 is_idle az-b
received=$(arrived az-b received)
await 'az-b, which lives, is not served by the other queues' 5 comes az-b $((received + 100))
say 'its queues are idle, its traffic goes by the others'
ctl -o json az recover az-b vnic0 >/dev/null
az_is az-b up || fail "az-b is $(az_field az-b state) after az recover"
before=$(steered az-b)
sleep 0.5
[ "$(steered az-b)" -gt "$before" ] || fail 'nothing goes to queues of az-b after az recover'
say 'recovered: its queues are in use again'

step '3. az-b dies, and nobody is told'
started_ms=$(now_ms)
zone_dies az-b
await "az-b is dead and still in use" 5 az_is az-b failed
say "failed over, and seen by vnicctl after $(($(now_ms) - started_ms)) ms: $(az_field az-b evidence)"
[ "$(az_field az-b cause)" = silence ] || fail "az-b was failed, and not for its silence: cause $(az_field az-b cause)"
is_idle az-b || fail 'packets still go to queues of az-b'
say 'its queues are idle, traffic of no zone goes by the others'
zone_starts az-b
await 'az-b sends again and is not taken into use' 15 az_is az-b up
say 'it sends again and is in use again'

step '4. The daemon is killed, then az-c dies'
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
daemon=
zone_dies az-c
sleep "$(pick "d / 1000 + 0.1" <<<"$silence_ms")"
is_idle az-c || fail 'az-c died while there was no daemon, and packets still go to its queues'
say 'the kernel has failed it over by itself'
received=$(arrived elsewhere received)
await 'traffic of no zone does not arrive' 5 comes elsewhere $((received + 100))
daemon_starts
await 'the daemon does not see what the kernel did' 10 az_is az-c failed
say "the daemon is back and knows: $(az_field az-c cause): $(az_field az-c evidence)"
zone_starts az-c
await 'az-c sends again and is not taken into use' 15 az_is az-c up
say 'it sends again and is in use again'

step '5. What the zones that never died have lost'
sleep 0.3
for zone in az-a elsewhere; do
	say "$zone: $(arrived "$zone" received) packets arrived, $(arrived "$zone" missing) lost, $(arrived "$zone" reordered) reordered"
done
[ "$(arrived az-a missing)" = 0 ] || fail "az-a lost $(arrived az-a missing) packets"
[ "$(arrived az-a reordered)" = 0 ] || fail "$(arrived az-a reordered) packets of az-a were reordered"
[ "$(arrived elsewhere missing)" = 0 ] || fail "traffic of no zone lost $(arrived elsewhere missing) packets"

step '6. The device is given back'
ctl --yes detach vnic0 --force | sed 's/^/  /'
ip -n "$guest" -d link show vnic0 | grep -q xdp && fail 'an XDP program is left on the device'
[ ! -e "/sys/fs/bpf/vnic/vnic0@$guest" ] || fail 'pins are left'
say 'nothing of ours is left on it'
exit 0
