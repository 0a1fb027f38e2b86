// SPDX-License-Identifier: Apache-2.0

/** IPv6 without duplicate address detection, link-local addresses or solicitations: nothing that a test did not send. */
export const quietIpv6 = `
for scope in all default; do
  conf=/proc/sys/net/ipv6/conf/$scope
  echo 0 > $conf/accept_dad
  echo 0 > $conf/accept_ra
  echo 0 > $conf/router_solicitations
  echo 1 > $conf/addr_gen_mode
done
ip link set lo up
`;
