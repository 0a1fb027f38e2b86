// SPDX-License-Identifier: Apache-2.0
/** vnicctl rule. */
import { type Command, Option } from 'commander';
import { VnicError } from '../errors.ts';
import type { DeviceId } from '../loader/pins.ts';
import { formatRule } from '../steering/rules/format.ts';
import { MAX_RULE_ID, type Rule } from '../steering/rules/model.ts';
import { parseRule, parseRules } from '../steering/rules/parse.ts';
import { type Context, contextOf } from './context.ts';
import { numberOrText, wholeNumberFrom } from './numbers.ts';
import { formatRules, parseRuleFile, type RuleFileFormat, readText } from './rule-file.ts';
import { addRuleOptions, type RuleOptions, ruleInput } from './rule-options.ts';
import { changeRules, findRule, printChanges, unknownRule } from './rule-set.ts';
import { rulesText, ruleViews } from './rule-view.ts';

const readId = wholeNumberFrom(1, MAX_RULE_ID);

interface DeviceOption {
  device?: string;
}

/** `-d DEV`, for all commands where the device may be left out. */
export function deviceOption(): Option {
  return new Option('-d, --device <device>', 'network device (default: the only attached one)');
}

export function ruleCommand(command: Command): void {
  addCommand(command);
  getCommand(command);
  listCommand(command);
  deleteCommand(command);
  replaceCommand(command);
  importCommand(command);
  exportCommand(command);
}

interface AddOptions extends RuleOptions, DeviceOption {
  id?: number | string;
  file?: string;
}

/** By options, or from a file; not by both. */
async function rulesOf(options: AddOptions, id = options.id): Promise<Rule[]> {
  const { file, device: _, id: __, ...rest } = options;
  if (file === undefined) return [parseRule(ruleInput(id, rest))];
  const given = Object.keys(rest).filter((name) => rest[name as keyof typeof rest] !== undefined);
  if (given.length > 0) {
    throw new VnicError('usage', `The rule is given by a file and by options (--${given.join(', --')}).`, {
      remedy: 'Give one of both.',
    });
  }
  return parseRules(parseRuleFile(await readText(file), file));
}

function addCommand(command: Command): void {
  addRuleOptions(
    command
      .command('add')
      .description('add a rule by options, or rules from a file')
      .argument('[device]', 'network device')
      .option('--id <number>', 'id of the rule, your choice', numberOrText),
  )
    .option('-f, --file <file>', 'rules as JSON or YAML; - is stdin')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: AddOptions, inner: Command) => {
      const context = contextOf(inner);
      const rules = await rulesOf(options);
      const report = changeRules(context, context.device(name, options.device), (present) => {
        const ids = new Set(present.map(({ id }) => id));
        const clash = rules.find(({ id }) => ids.has(id));
        if (clash !== undefined) {
          throw new VnicError('conflict', `Rule ${clash.id} exists already.`, {
            remedy: `Change it with: vnicctl rule replace ${clash.id} …`,
            details: { rule: clash.id },
          });
        }
        return [...present, ...rules];
      });
      await printChanges(context, report);
    });
}

function getCommand(command: Command): void {
  command
    .command('get')
    .description('one rule with its counters')
    .argument('<id>', 'rule id', readId)
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (id: number, name: string | undefined, options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const view = context.controller.withDevice(context.device(name, options.device), (attached) => {
        findRule(id, attached.config.rules);
        return ruleViews(attached).filter((rule) => rule.id === id);
      });
      await context.print(view[0], () => rulesText(view));
    });
}

function listCommand(command: Command): void {
  command
    .command('list')
    .description('all rules with their counters, the one that wins first')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const views = context.controller.withDevice(context.device(name, options.device), ruleViews);
      await context.print(views, () => rulesText(views));
    });
}

function deleteCommand(command: Command): void {
  command
    .command('delete')
    .description('delete rules')
    .argument('<id...>', 'rule ids', (text: string, earlier: number[] | undefined) => [
      ...(earlier ?? []),
      readId(text),
    ])
    .addOption(deviceOption())
    .action(async (ids: number[], options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const report = changeRules(context, context.device(undefined, options.device), (present) => {
        for (const id of ids) findRule(id, present);
        return present.filter(({ id }) => !ids.includes(id));
      });
      await printChanges(context, report);
    });
}

function replaceCommand(command: Command): void {
  addRuleOptions(
    command
      .command('replace')
      .description('replace one rule as a whole, keeping its counters')
      .argument('<id>', 'rule id', readId)
      .argument('[device]', 'network device'),
  )
    .option('-f, --file <file>', 'the rule as JSON or YAML; - is stdin')
    .addOption(deviceOption())
    .action(async (id: number, name: string | undefined, options: AddOptions, inner: Command) => {
      const context = contextOf(inner);
      const [rule, ...others] = await rulesOf(options, id);
      if (rule === undefined || others.length > 0 || rule.id !== id) {
        throw new VnicError('usage', `The file does not hold rule ${id} and nothing else.`, {
          remedy: 'To replace the whole set: vnicctl rule import FILE',
        });
      }
      const report = changeRules(context, context.device(name, options.device), (present) => {
        if (!present.some((other) => other.id === id)) {
          const { message, details } = unknownRule(id, present);
          throw new VnicError('not_found', message, { remedy: `Add it with: vnicctl rule add --id ${id} …`, details });
        }
        return present.map((other) => (other.id === id ? rule : other));
      });
      await printChanges(context, report);
    });
}

function importCommand(command: Command): void {
  command
    .command('import')
    .description('replace the whole set with that of a file, all or nothing')
    .argument('<file>', 'JSON array, YAML list or JSON lines; - is stdin')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (file: string, name: string | undefined, options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const rules = parseRules(parseRuleFile(await readText(file), file));
      const device = context.device(name, options.device);
      if (context.asks) await confirmImport(context, device, rules);
      const report = changeRules(context, device, () => rules);
      await printChanges(context, report);
    });
}

async function confirmImport(context: Context, device: DeviceId, rules: readonly Rule[]): Promise<void> {
  const { removed, changed } = changeRules(context, device, () => rules, true);
  if (removed.length + changed.length === 0) return;
  await context.confirm(`This removes ${removed.length} and changes ${changed.length} rules. Go on?`);
}

function exportCommand(command: Command): void {
  command
    .command('export')
    .description('all rules in the form that import reads')
    .argument('[device]', 'network device')
    .addOption(
      new Option('--format <format>', 'default: json, or yaml with -o yaml').choices(['json', 'yaml', 'ndjson']),
    )
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: DeviceOption & { format?: RuleFileFormat }, inner: Command) => {
      const context = contextOf(inner);
      const device = context.device(name, options.device);
      const rules = context.controller.withDevice(device, ({ config }) => config.rules.map(formatRule));
      const text = formatRules(rules, options.format ?? (context.options.output === 'yaml' ? 'yaml' : 'json'));
      if (text !== '') context.write(text);
    });
}
