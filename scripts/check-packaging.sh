#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks what the package installs beside the program: the unit (systemd-analyze: no word of complaint, exposure below 4),
# manual pages (scdoc, man), completions (each shell that is here), scripts. A tool that is missing is named.
set -uo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
fail() {
	printf 'check-packaging: %s\n' "$*" >&2
	status=1
}
have() { command -v "$1" >/dev/null || { echo "check-packaging: $1 is not installed, not checked"; return 1; }; }

if have systemd-analyze; then
	unit=$work/vnicd.service
	# From the checkout: verify wants to find the command.
	sed "s|@PREFIX@/sbin|$PWD/bin|; s|@SYSCONFDIR@|/etc|g" deploy/systemd/vnicd.service >"$unit"
	said=$(systemd-analyze verify --man=no "$unit" 2>&1) || fail 'systemd-analyze verify fails'
	[ -z "$said" ] || fail "systemd-analyze verify: $said"
	systemd-analyze security --offline=true --threshold=39 "$unit" >"$work/security" 2>&1 ||
		fail "systemd-analyze security: $(tail -n 1 "$work/security")"
fi
if have scdoc; then
	for page in man/*.scd; do
		scdoc <"$page" >"$work/page" || fail "$page is no scdoc"
		if have man; then
			said=$(MANWIDTH=80 man -l --warnings "$work/page" 2>&1 >/dev/null)
			[ -z "$said" ] || fail "$page: $said"
		fi
	done
fi
for shell in bash zsh fish; do
	bin/vnicctl completion $shell >"$work/$shell" || fail "vnicctl completion $shell fails"
	if command -v $shell >/dev/null; then $shell -n "$work/$shell" || fail "the completion for $shell has a mistake"; fi
done
for script in deploy/debian/{postinst,prerm,postrm}; do sh -n "$script" || fail "$script has a mistake"; done
if command -v shellcheck >/dev/null; then
	shellcheck scripts/packaging/*.sh scripts/check-packaging.sh deploy/debian/{postinst,prerm,postrm} bin/vnic* || status=1
fi
bin/vnicctl config check deploy/systemd/vnic.yaml >/dev/null || fail 'the installed configuration is not valid'
[ $status -ne 0 ] || echo 'packaging: unit, manual pages, completions and scripts are in order'
exit $status
