// SPDX-License-Identifier: Apache-2.0
/** vnicctl limit: rules with a limit, in short. */
import type { Command } from 'commander';
import type { ApiClient, Call } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { MAX_RULE_ID } from '../steering/rules/model.ts';
import { type Context, contextOf } from './context.ts';
import { type DeviceOption, deviceOption } from './device-option.ts';
import { wholeNumberFrom } from './numbers.ts';
import { printChanges, type RuleChanges } from './rule-changes.ts';
import {
  addLimitOptions,
  addMatchOptions,
  type LimitOptions,
  limitInput,
  type MatchOptions,
  matchInput,
} from './rule-options.ts';
import { listAllRules } from './rule-requests.ts';
import { type RuleView, rulesText } from './rule-table.ts';

const readId = wholeNumberFrom(1, MAX_RULE_ID);
/** Others may change the rule between our reading and our writing; not that often. */
const ATTEMPTS = 5;

type RuleBody = NonNullable<Call<'putRule'>['body']>;
type Known = Omit<RuleView, 'counters'>;

interface SetOptions extends MatchOptions, LimitOptions, DeviceOption {}

export function limitCommand(command: Command): void {
  setCommand(command);
  command
    .command('list')
    .description('rules that have a limit')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const client = await context.client();
      const rules = await listAllRules(client, await context.device(name, options.device));
      const limits = rules.filter(({ limit }) => limit !== undefined);
      await context.print(limits, () => (limits.length === 0 ? 'There are no limits.' : rulesText(limits)));
    });
  command
    .command('clear')
    .description('take the limit off a rule; the rule stays')
    .argument('<id>', 'rule id', readId)
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (id: number, name: string | undefined, options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const device = await context.device(name, options.device);
      const changes = await changeRule(context, { device, id }, (known, unknown) => {
        if (known === null) throw unknown;
        const { limit, ...rest } = known;
        if (limit === undefined) {
          throw new VnicError('not_found', `Rule ${id} has no limit.`, { remedy: 'See: vnicctl limit list' });
        }
        return rest;
      });
      await printChanges(context, changes);
    });
}

function setCommand(command: Command): void {
  const set = command
    .command('set')
    .description('set the limit of a rule; with a match and a new id it makes the rule')
    .argument('<id>', 'rule id', readId)
    .argument('[device]', 'network device');
  addMatchOptions(addLimitOptions(set))
    .addOption(deviceOption())
    .action(async (id: number, name: string | undefined, options: SetOptions, inner: Command) => {
      const context = contextOf(inner);
      if (options.rate === undefined) {
        throw new VnicError('usage', 'A limit needs a rate.', { remedy: `vnicctl limit set ${id} --rate 10mbit` });
      }
      const device = await context.device(name, options.device);
      const changes = await changeRule(context, { device, id }, (known, unknown) =>
        withLimit(id, options, known, unknown),
      );
      await printChanges(context, changes);
    });
}

/** A known rule keeps all but its limit, and its match unless another one is given. */
function withLimit(id: number, options: SetOptions, known: Known | null, unknown: unknown): RuleBody {
  const match = matchInput(options);
  const hasMatch = Object.keys(match).length > 0;
  const limit = limitInput(options) as RuleBody['limit'];
  if (known !== null) return { ...known, ...(hasMatch ? { match } : {}), limit };
  if (hasMatch) return { id, match, action: 'pass', limit };
  const { message, details } = unknown as VnicError;
  const remedy = 'To make it, say what it matches: --src, --dst, --proto, --sport, --dport';
  throw new VnicError('not_found', message, { remedy, details });
}

/**
 * Reads a rule, and writes it if nobody else changed it meanwhile; else reads it again.
 * @param next gets the rule, or null and the error that says that it is not there
 */
async function changeRule(
  context: Context,
  params: { device: string; id: number },
  next: (known: Known | null, unknown: unknown) => RuleBody,
): Promise<RuleChanges> {
  const client = await context.client();
  for (let attempt = 1; ; attempt++) {
    const { rule, etag, error } = await readRule(client, params);
    const condition = etag === null ? { ifNoneMatch: '*' } : { ifMatch: etag };
    try {
      const query = { dryRun: context.dryRun };
      return (await client.call('putRule', { params, query, body: next(rule, error), ...condition })).data;
    } catch (failure) {
      const isStale = failure instanceof VnicError && failure.code === 'precondition_failed';
      if (!isStale || attempt === ATTEMPTS) throw failure;
    }
  }
}

interface ReadRule {
  rule: Known | null;
  etag: string | null;
  /** Why there is none. */
  error: unknown;
}

async function readRule(client: ApiClient, params: { device: string; id: number }): Promise<ReadRule> {
  try {
    const { data, etag } = await client.call('getRule', { params });
    const { counters: _, ...rule } = data;
    return { rule, etag, error: null };
  } catch (error) {
    // Without the rule it is the device that is not there.
    if (error instanceof VnicError && error.code === 'not_found' && error.details['rule'] !== undefined) {
      return { rule: null, etag: null, error };
    }
    throw error;
  }
}
