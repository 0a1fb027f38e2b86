#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# boot-root.sh FOLDER CGROUP: runs the systemd of a Debian system as process 1 of namespaces of its own, in the network
# namespace that it is started in. CGROUP: a new folder of the machine's cgroup2. Everything ends with this process.
set -eu
mkdir "$2"
echo $$ >"$2/cgroup.procs"
# shellcheck disable=SC2016 # for the inner shell
exec unshare --mount --propagation private --pid --fork --kill-child --cgroup --uts --ipc bash -euc '
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=755 tmpfs run
pivot_root . mnt
umount --lazy /mnt
# As on a machine: services see what is mounted later. In a container systemd leaves that to others.
mount --make-rshared /
exec env -i container=vnic PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target </dev/null
' "$1"
