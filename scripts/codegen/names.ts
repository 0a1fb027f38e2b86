// SPDX-License-Identifier: Apache-2.0
/** From names in C to names in TypeScript. */

/** `bpf_map_info` -> `BpfMapInfo`, `__sk_buff` -> `SkBuff`. */
export function pascalCase(name: string): string {
  return words(name)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
}

/** `last_seen_ns` -> `lastSeenNs`. */
export function camelCase(name: string): string {
  const text = pascalCase(name);
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/**
 * Cuts off the words that an enumerator shares with its enum, from the left: VNIC_UNPARSED_BAD_IHL of vnic_unparsed ->
 * `badIhl`, VNIC_PARSED of the same -> `parsed`. At least one word stays, and a name never begins with a digit.
 */
export function enumeratorName(enumName: string, enumerator: string): string {
  const rest = words(enumerator.toLowerCase());
  for (const word of words(enumName)) {
    if (rest[0] !== word || rest.length < 2 || /^\d/.test(rest[1]!)) {
      break;
    }
    rest.shift();
  }
  return camelCase(rest.join('_'));
}

function words(name: string): string[] {
  return name.split('_').filter((word) => word !== '');
}
