// SPDX-License-Identifier: Apache-2.0
/** Requests for rules that several commands make. */
import type { ApiClient } from '../api/client.ts';
import type { RuleView } from './rule-table.ts';

/** More rules than a dataplane holds: the list in one part. */
const ALL = 1 << 20;

/** The rule that wins over all others first. */
export async function listAllRules(client: ApiClient, device: string): Promise<RuleView[]> {
  return (await client.call('listRules', { params: { device }, query: { limit: ALL } })).data.items;
}
