// SPDX-License-Identifier: Apache-2.0
/** vnicctl rule. */
import { type Command, Option } from 'commander';
import type { Call } from '../api/client.ts';
import type { RuleTextFormat } from '../config/rule-text.ts';
import { VnicError } from '../errors.ts';
import { MAX_RULE_ID } from '../steering/rules/model.ts';
import { type Context, contextOf } from './context.ts';
import { type DeviceOption, deviceOption } from './device-option.ts';
import { numberOrText, wholeNumberFrom } from './numbers.ts';
import { count } from './output.ts';
import { Progress, withProgress } from './progress.ts';
import { printChanges } from './rule-changes.ts';
import { readRules } from './rule-file.ts';
import { addRuleOptions, type RuleOptions, ruleInput } from './rule-options.ts';
import { listAllRules } from './rule-requests.ts';
import { rulesText } from './rule-table.ts';

/** Takes longer than anybody waits without a word. */
const MANY_RULES = 10_000;

const readId = wholeNumberFrom(1, MAX_RULE_ID);

type RuleBody = NonNullable<NonNullable<Call<'patchRules'>['body']>['add']>[number];
type Patch = NonNullable<Call<'patchRules'>['body']>;

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
async function rulesOf(options: AddOptions, id = options.id): Promise<RuleBody[]> {
  const { file, device: _, id: __, ...rest } = options;
  if (file === undefined) {
    const rule = ruleInput(id, rest);
    // Here, so that a problem names the field of the one rule there is, and not of the first of a list.
    const { parseRule } = await import('../steering/rules/parse.ts');
    parseRule(rule);
    return [rule as RuleBody];
  }
  const given = Object.keys(rest).filter((name) => rest[name as keyof typeof rest] !== undefined);
  if (given.length > 0) {
    throw new VnicError('usage', `The rule is given by a file and by options (--${given.join(', --')}).`, {
      remedy: 'Give one of both.',
    });
  }
  return await readRules(file);
}

async function patchRules(context: Context, device: string, body: Patch): Promise<void> {
  const client = await context.client();
  const { data } = await client.call('patchRules', { params: { device }, query: { dryRun: context.dryRun }, body });
  await printChanges(context, data);
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
      const add = await rulesOf(options);
      await patchRules(context, await context.device(name, options.device), { add });
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
      const client = await context.client();
      const device = await context.device(name, options.device);
      const { data } = await client.call('getRule', { params: { device, id } });
      await context.print(data, () => rulesText([data]));
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
      const client = await context.client();
      const rules = await listAllRules(client, await context.device(name, options.device));
      await context.print(rules, () => rulesText(rules));
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
      await patchRules(context, await context.device(undefined, options.device), { delete: [...new Set(ids)] });
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
      const replace = await rulesOf(options, id);
      const { parseRules } = await import('../steering/rules/parse.ts');
      const [rule, ...others] = parseRules(replace);
      if (rule === undefined || others.length > 0 || rule.id !== id) {
        throw new VnicError('usage', `The file does not hold rule ${id} and nothing else.`, {
          remedy: 'To replace the whole set: vnicctl rule import FILE',
        });
      }
      const device = await context.device(name, options.device);
      try {
        await patchRules(context, device, { replace });
      } catch (error) {
        if (!(error instanceof VnicError) || error.code !== 'not_found' || error.details['rule'] !== id) throw error;
        const { message, details } = error;
        throw new VnicError('not_found', message, { remedy: `Add it with: vnicctl rule add --id ${id} …`, details });
      }
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
      const rules = await withProgress(`reading ${file === '-' ? 'rules' : file}`, () => readRules(file));
      const device = await context.device(name, options.device);
      if (context.asks) await confirmImport(context, device, rules);
      const changes = await replaceRules(context, device, rules, context.dryRun);
      await printChanges(context, changes);
    });
}

async function replaceRules(context: Context, device: string, rules: RuleBody[], dryRun: boolean) {
  const client = await context.client();
  using progress = new Progress(`${dryRun ? 'comparing' : 'loading'} ${count(rules.length, 'rule')}`);
  // Without a daemon it is this process that does it.
  if (rules.length >= MANY_RULES) progress.showNow();
  return (await client.call('replaceRules', { params: { device }, query: { dryRun }, body: rules })).data;
}

async function confirmImport(context: Context, device: string, rules: RuleBody[]): Promise<void> {
  const { removed, changed } = await replaceRules(context, device, rules, true);
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
    .action(async (name: string | undefined, options: DeviceOption & { format?: RuleTextFormat }, inner: Command) => {
      const context = contextOf(inner);
      const client = await context.client();
      const device = await context.device(name, options.device);
      const format = options.format ?? (context.options.output === 'yaml' ? 'yaml' : 'json');
      const accept = format === 'yaml' ? 'application/yaml' : 'application/x-ndjson';
      const text = (await client.callText('listRules', { params: { device }, accept })).trimEnd();
      const lines = text === '' ? [] : text.split('\n');
      if (format === 'json')
        context.write(
          JSON.stringify(
            lines.map((line) => JSON.parse(line) as unknown),
            null,
            2,
          ),
        );
      else if (text !== '') context.write(text);
    });
}
