#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the built checkout, or removes what that installed:
#   scripts/packaging/install.sh install|uninstall
#
# PREFIX (default /usr/local), DESTDIR (default: none), SYSCONFDIR (default /etc). With a DESTDIR only files are written;
# without, the running system is told (systemd, tmpfiles). Configuration files that exist are left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
umask 022

PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
SYSCONFDIR=${SYSCONFDIR:-/etc}
lib=$PREFIX/lib/vnicctl
unit=$PREFIX/lib/systemd/system/vnicd.service
tmpfiles=$PREFIX/lib/tmpfiles.d/vnicctl.conf
# Where each file goes that is not below $lib.
bash_completion=$PREFIX/share/bash-completion/completions/vnicctl
zsh_completion=$PREFIX/share/zsh/vendor-completions/_vnicctl
[ "$PREFIX" = /usr ] || zsh_completion=$PREFIX/share/zsh/site-functions/_vnicctl
fish_completion=$PREFIX/share/fish/vendor_completions.d/vnicctl.fish

fail() {
	printf 'install: error: %s\n  %s\n' "$1" "$2" >&2
	exit 1
}

put() { # put MODE SOURCE TARGET
	install -D -m "$1" "$2" "$DESTDIR$3"
}

fill_in() { # fill_in MODE SOURCE TARGET: with the folders of this installation
	install -d "$DESTDIR$(dirname "$3")"
	sed "s|@PREFIX@|$PREFIX|g; s|@SYSCONFDIR@|$SYSCONFDIR|g" "$2" >"$DESTDIR$3"
	chmod "$1" "$DESTDIR$3"
}

# Modules that load code of the machine from beside their own files.
outside_bundle='^node_modules/(koffi|@koromix/[^/]*)$'

copy_program() {
	local target=$DESTDIR$lib
	rm -rf "$target"
	install -d "$target/node_modules/.bin"
	put 755 bin/vnicctl "$lib/bin/vnicctl"
	put 755 bin/vnicd "$lib/bin/vnicd"
	put 644 package.json "$lib/package.json"
	local object
	for object in bpf/*.bpf.c; do
		object=build/${object%.c}.o
		[ -e "$object" ] || fail "the BPF programs are not built: there is no $object" 'Run: make build'
		put 644 "$object" "$lib/$object"
	done
	put 755 "$(readlink -f node_modules/.bin/node)" "$lib/node_modules/.bin/node"
	# The live page's own tsconfig, types and maps are of use to its authors only.
	[ -e build/dist/cli/main.js ] || fail 'vnicctl is not bundled: there is no build/dist/cli/main.js' 'Run: make build'
	tar -c --exclude=tsconfig.json --exclude='*.d.ts' build/dist src/daemon/page | tar -x --no-same-owner -C "$target"
	# Of koffi, which is not in the bundle, without what its authors need: types, sources, manuals, builds for another C
	# library. Of the modules that are in it, what says whose they are.
	local modules left_out=('*.d.ts' '*.cc' '*.hh' '*.inc' '*.def' '*.S' '*.asm' CMakeLists.txt musl_x64 musl_arm64
		node_modules/koffi/{doc,vendor,cnoke.cjs,src/koffi/src/trampolines.cjs})
	modules=$(node_modules/.bin/node scripts/packaging/production-modules.ts)
	{
		grep -E "$outside_bundle" <<<"$modules"
		grep -vE "$outside_bundle" <<<"$modules" | xargs -d '\n' -I{} find {} -maxdepth 1 -type f \
			\( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'authors*' -o -name package.json \)
	} | tar -c "${left_out[@]/#/--exclude=}" -T - | tar -x --no-same-owner -C "$target"
	chmod -R u=rwX,go=rX "$target"
	find "$target/node_modules" -type f ! -path '*/.bin/*' -exec chmod a-x {} +
}

completions_and_man() {
	local shell
	for shell in bash zsh fish; do
		local -n file=${shell}_completion
		install -d "$DESTDIR$(dirname "$file")"
		bin/vnicctl completion "$shell" >"$DESTDIR$file"
		chmod 644 "$DESTDIR$file"
	done
	local page section
	for page in vnicctl.8 vnicd.8 vnic.yaml.5; do
		section=${page##*.}
		install -d "$DESTDIR$PREFIX/share/man/man$section"
		scdoc <"man/$page.scd" >"$DESTDIR$PREFIX/share/man/man$section/$page"
	done
}

install_all() {
	copy_program
	install -d "$DESTDIR$PREFIX/bin" "$DESTDIR$PREFIX/sbin"
	ln -sfn ../lib/vnicctl/bin/vnicctl "$DESTDIR$PREFIX/bin/vnicctl"
	ln -sfn ../lib/vnicctl/bin/vnicd "$DESTDIR$PREFIX/sbin/vnicd"
	fill_in 644 deploy/systemd/vnicd.service "$unit"
	put 644 deploy/systemd/vnicctl.tmpfiles "$tmpfiles"
	[ -e "$DESTDIR$SYSCONFDIR/vnic/vnic.yaml" ] || put 640 deploy/systemd/vnic.yaml "$SYSCONFDIR/vnic/vnic.yaml"
	[ -e "$DESTDIR$SYSCONFDIR/default/vnicd" ] || put 644 deploy/systemd/vnicd.default "$SYSCONFDIR/default/vnicd"
	completions_and_man
	[ -z "$DESTDIR" ] || return 0
	if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create "$tmpfiles"; fi
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl try-restart vnicd.service
	fi
	echo "Installed below $PREFIX. Start the daemon with: systemctl enable --now vnicd"
}

uninstall_all() {
	if [ -z "$DESTDIR" ]; then
		if [ -d /run/systemd/system ]; then systemctl disable --now vnicd.service 2>/dev/null || true; fi
		# What stays attached could not be taken off later.
		if [ -n "$(ls -A /sys/fs/bpf/vnic 2>/dev/null)" ] && [ -x "$PREFIX/bin/vnicctl" ]; then
			"$PREFIX/bin/vnicctl" --yes detach --all
		fi
	fi
	rm -rf "$DESTDIR$lib"
	rm -f "$DESTDIR$PREFIX/bin/vnicctl" "$DESTDIR$PREFIX/sbin/vnicd" "$DESTDIR$unit" "$DESTDIR$tmpfiles" \
		"$DESTDIR$bash_completion" "$DESTDIR$zsh_completion" "$DESTDIR$fish_completion" \
		"$DESTDIR$PREFIX"/share/man/man8/vnic{ctl,d}.8 "$DESTDIR$PREFIX/share/man/man5/vnic.yaml.5"
	if [ -z "$DESTDIR" ]; then
		rm -rf /var/cache/vnicctl
		if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	fi
	echo "Removed. Configuration stays in $SYSCONFDIR/vnic and $SYSCONFDIR/default/vnicd, records in /var/lib/vnic."
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) fail "unknown command '${1:-}'" 'Give install or uninstall.' ;;
esac
