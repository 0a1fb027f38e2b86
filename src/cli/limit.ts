// SPDX-License-Identifier: Apache-2.0
/** vnicctl limit: rules with a limit, in short. */
import type { Command } from 'commander';
import { VnicError } from '../errors.ts';
import { formatRule } from '../steering/rules/format.ts';
import { MAX_RULE_ID, type Rule } from '../steering/rules/model.ts';
import { parseRule } from '../steering/rules/parse.ts';
import { contextOf } from './context.ts';
import { wholeNumberFrom } from './numbers.ts';
import { deviceOption } from './rule.ts';
import {
  addLimitOptions,
  addMatchOptions,
  type LimitOptions,
  limitInput,
  type MatchOptions,
  matchInput,
} from './rule-options.ts';
import { changeRules, findRule, printChanges, unknownRule } from './rule-set.ts';
import { rulesText, ruleViews } from './rule-view.ts';

const readId = wholeNumberFrom(1, MAX_RULE_ID);

interface SetOptions extends MatchOptions, LimitOptions {
  device?: string;
}

export function limitCommand(command: Command): void {
  setCommand(command);
  command
    .command('list')
    .description('rules that have a limit')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: { device?: string }, inner: Command) => {
      const context = contextOf(inner);
      const device = context.device(name, options.device);
      const views = context.controller.withDevice(device, ruleViews).filter(({ limit }) => limit !== undefined);
      await context.print(views, () => (views.length === 0 ? 'There are no limits.' : rulesText(views)));
    });
  command
    .command('clear')
    .description('take the limit off a rule; the rule stays')
    .argument('<id>', 'rule id', readId)
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (id: number, name: string | undefined, options: { device?: string }, inner: Command) => {
      const context = contextOf(inner);
      const report = changeRules(context, context.device(name, options.device), (present) => {
        const { limit, ...rest } = findRule(id, present);
        if (limit === undefined) {
          throw new VnicError('not_found', `Rule ${id} has no limit.`, { remedy: 'See: vnicctl limit list' });
        }
        return present.map((rule) => (rule.id === id ? rest : rule));
      });
      await printChanges(context, report);
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
      const report = changeRules(context, context.device(name, options.device), (present) =>
        withLimit(present, id, options),
      );
      await printChanges(context, report);
    });
}

/** A known rule keeps all but its limit, and its match unless another one is given. */
function withLimit(present: readonly Rule[], id: number, options: SetOptions): Rule[] {
  const match = matchInput(options);
  const hasMatch = Object.keys(match).length > 0;
  const known = present.find((rule) => rule.id === id);
  if (known === undefined) {
    if (!hasMatch) {
      const { message, details } = unknownRule(id, present);
      const remedy = 'To make it, say what it matches: --src, --dst, --proto, --sport, --dport';
      throw new VnicError('not_found', message, { remedy, details });
    }
    return [...present, parseRule({ id, match, action: 'pass', limit: limitInput(options) })];
  }
  const { limit: _, ...rest } = formatRule(known);
  const next = parseRule({ ...rest, ...(hasMatch ? { match } : {}), limit: limitInput(options) });
  return present.map((rule) => (rule.id === id ? next : rule));
}
