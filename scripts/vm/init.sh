#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# PID 1 of the test guest. Mounts what is shared, runs the suites and powers off. The second serial port carries lines of JSON
# between the suites and whoever started the guest; the first is the console.
export PATH=/bin:/sbin HOME=/root TERM=dumb
LINE=/dev/ttyS1
LIMIT_SECONDS=900

broken() {
	echo "{\"kind\":\"broken\",\"reason\":\"$1\"}" >$LINE
	sleep 1
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
stty -F $LINE raw -echo

# Whoever started the guest may be gone.
(sleep $LIMIT_SECONDS && poweroff -f) &

while read -r module; do
	insmod "/boot/$module" || broken "module $module cannot be loaded"
done </boot/order
share() {
	mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose "$1" "$2" || broken "share $1 cannot be mounted"
}
share checkout /checkout
share modules /lib/modules
mount -t bpf bpf /sys/fs/bpf || broken 'bpffs cannot be mounted'
modprobe virtio_net || broken 'virtio_net cannot be loaded'
ip link set lo up
echo "{\"kind\":\"booted\",\"kernel\":\"$(uname -r)\"}" >$LINE

cd /checkout || broken 'the checkout is empty'
# Every run of the command line would strip the types of its sources anew.
export NODE_COMPILE_CACHE=/tmp/compile-cache
node_modules/.bin/node test/vm/guest/main.ts <$LINE >$LINE 2>&1
echo "{\"kind\":\"ended\",\"status\":$?}" >$LINE
sleep 1
poweroff -f
