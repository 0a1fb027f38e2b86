// SPDX-License-Identifier: Apache-2.0
/** vnicctl qos: the protocol of QoS agents, `{"flow_id":1,"rate":10000}`: a rule's id and its rate in kbit/s. */
import type { Command } from 'commander';
import { VnicError } from '../errors.ts';
import { formatRule } from '../steering/rules/format.ts';
import type { Rule } from '../steering/rules/model.ts';
import { parseQosLine, parseRule, type QosSetting } from '../steering/rules/parse.ts';
import { contextOf } from './context.ts';
import { deviceOption } from './rule.ts';
import { readText } from './rule-file.ts';
import { changeRules, findRule, printChanges } from './rule-set.ts';

export function qosCommand(command: Command): void {
  command
    .command('apply')
    .description('set the rates of rules from JSON lines, all or nothing')
    .argument('[file]', 'one {"flow_id":ID,"rate":KBIT_PER_SECOND} a line; - is stdin', '-')
    .addOption(deviceOption())
    .action(async (file: string, options: { device?: string }, inner: Command) => {
      const context = contextOf(inner);
      const settings = parseQos(await readText(file));
      const device = context.device(undefined, options.device);
      await printChanges(
        context,
        changeRules(context, device, (present) => withRates(present, settings)),
      );
    });
}

/** A later line of the same rule wins. */
export function parseQos(text: string): Map<number, QosSetting> {
  const settings = new Map<number, QosSetting>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    try {
      const setting = parseQosLine(line);
      settings.set(setting.ruleId, setting);
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      const { code, message, remedy, details } = error;
      throw new VnicError(code, `line ${index + 1}: ${message}`, {
        ...(remedy === undefined ? {} : { remedy }),
        details: { ...details, line: index + 1 },
        cause: error,
      });
    }
  }
  return settings;
}

/** The limit keeps its scope and mode; its burst is the default for the new rate. */
function withRates(present: readonly Rule[], settings: ReadonlyMap<number, QosSetting>): Rule[] {
  for (const id of settings.keys()) findRule(id, present);
  return present.map((rule) => {
    const setting = settings.get(rule.id);
    if (setting === undefined) return rule;
    const { limit, ...rest } = formatRule(rule);
    const { scope = 'rule', mode = 'police' } = limit ?? {};
    return parseRule({ ...rest, limit: { rate: setting.bitsPerSecond, scope, mode } });
  });
}
