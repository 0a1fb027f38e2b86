#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a fresh Debian system in a folder, as the package finds it: debootstrap's minbase, systemd, what the package depends on.
#   scripts/packaging/fresh-root.sh FOLDER
# What was made once is kept as a tar file in CACHE (default /var/cache/vnicctl-tests), by what is in it. MIRROR may be given.
set -euo pipefail
folder=$1
cache=${CACHE:-/var/cache/vnicctl-tests}
suite=bookworm
include=libbpf1,libstdc++6,iproute2,systemd
mirror=${MIRROR:-http://deb.debian.org/debian}
kept=$cache/$suite-$(dpkg --print-architecture)-$(printf '%s' "$include" | md5sum | cut -c1-8).tar

export PATH=$PATH:/usr/sbin:/sbin
if [ ! -e "$kept" ]; then
	# In memory where there is some: dpkg waits for the disk after each file.
	[ "$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 1000000 ] 2>/dev/null && export TMPDIR=/dev/shm
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	timeout 300 debootstrap --variant=minbase --include="$include" "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 || {
		tail -n 3 "$work/log" >&2
		exit 1
	}
	rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
	mkdir -p "$cache"
	tar -C "$work/root" -cf "$kept.$$" .
	mv "$kept.$$" "$kept"
fi
mkdir -p "$folder"
tar -C "$folder" -xpf "$kept"
