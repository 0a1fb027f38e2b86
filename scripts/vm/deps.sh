#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the guest needs on top of scripts/deps.sh: an emulator and busybox.
# Run again, it finds everything in place and changes nothing.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

have() { command -v "$1" >/dev/null 2>&1; }

missing=()
have qemu-system-x86_64 || missing+=(qemu-system-x86)
have busybox || missing+=(busybox-static)
have xz || missing+=(xz-utils)
have zstd || missing+=(zstd)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! have apt-get || [ "$(id -u)" -ne 0 ]; then
	printf 'deps: not installed, the guest cannot be booted: %s\n' "${missing[*]}" >&2
	exit 0
fi
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null; }
install || { apt-get update -q </dev/null && install; } ||
	printf 'deps: apt-get could not install %s: the guest cannot be booted\n' "${missing[*]}" >&2
