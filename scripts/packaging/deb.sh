#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the Debian package of the built checkout: build/deb/vnicctl_VERSION_ARCH.deb
#
# VERSION (default: package.json's), OUT (folder, default build/deb), BPF_OBJECT (other compiled programs),
# COMPRESSION (dpkg-deb's options, default -Zxz -z3). No root is needed; the files belong to root all the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
umask 022

version=${VERSION:-$(sed -n 's/^  "version": "\(.*\)",/\1/p' package.json)}
arch=$(dpkg --print-architecture)
out=${OUT:-build/deb}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
maintainer=${MAINTAINER:-"$(sed -n 's/^Maintainer: //p' deploy/debian/maintainer)"}

DESTDIR=$root PREFIX=/usr scripts/packaging/install.sh install
lib=$root/usr/lib/vnicctl
[ -z "${BPF_OBJECT:-}" ] || install -m 644 "$BPF_OBJECT" "$lib/build/bpf/vnic.bpf.o"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$lib/node_modules/.bin/node"
find "$lib/node_modules" -name '*.node' -exec strip --strip-unneeded {} +

doc=$root/usr/share/doc/vnicctl
install -d "$doc/examples" "$root/usr/share/lintian/overrides"
install -m 644 deploy/debian/copyright "$doc/copyright"
install -m 644 deploy/debian/lintian-overrides "$root/usr/share/lintian/overrides/vnicctl"
cp -r deploy/prometheus deploy/grafana dashboards "$doc/examples/"
gzip -9n <CHANGELOG.md >"$doc/CHANGELOG.md.gz"
printf 'vnicctl (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$version" "$maintainer" \
	"$(date -R -u -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
gzip -9n <"$(dirname "$(readlink -f node_modules/.bin/node)")/../LICENSE" >"$doc/LICENSE.nodejs.gz"
cp -r bpf "$doc/bpf"
gzip -9n "$root"/usr/share/man/man*/*
chmod -R u=rwX,go=rX "$root"
# Tokens' hashes and names of hosts are nobody else's business.
chmod 640 "$root/etc/vnic/vnic.yaml"

# What the programs link to, and what libbpf is opened by name; ip and tc are asked about devices.
depends=$(cd "$work" && mkdir -p debian && printf 'Source: vnicctl\n\nPackage: vnicctl\nArchitecture: any\n' >debian/control &&
	dpkg-shlibdeps -O -e"$lib/node_modules/.bin/node" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo 'deb: error: dpkg-shlibdeps says nothing (package dpkg-dev)' >&2; exit 1; }
depends="$depends, libbpf1 (>= 1:1.1.0), iproute2"

install -d "$root/DEBIAN"
size=$(du -ks --apparent-size --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@MAINTAINER@/$maintainer/; s/@DEPENDS@/$depends/" \
	deploy/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "deploy/debian/$script" "$root/DEBIAN/$script"; done
printf '%s\n' /etc/vnic/vnic.yaml /etc/default/vnicd >"$root/DEBIAN/conffiles"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' md5sum) >"$root/DEBIAN/md5sums"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

install -d "$out"
package=$out/vnicctl_${version}_$arch.deb
# shellcheck disable=SC2086 # several options
dpkg-deb --root-owner-group ${COMPRESSION:--Zxz -z3} --build "$root" "$package" >/dev/null
echo "$package"
