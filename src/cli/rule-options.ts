// SPDX-License-Identifier: Apache-2.0
/** A rule by options on the command line. */
import { type Command, Option } from 'commander';
import { parseQueueList } from '../config/queue-list.ts';
import { numberOrText } from './numbers.ts';

export interface MatchOptions {
  src?: string;
  dst?: string;
  proto?: string;
  sport?: string;
  dport?: string;
}

export interface LimitOptions {
  rate?: string;
  burst?: string;
  scope?: string;
  mode?: string;
}

export interface RuleOptions extends MatchOptions, LimitOptions {
  priority?: number | string;
  direction?: string;
  action?: string;
  queues?: string;
  shadow?: boolean;
}

export function addMatchOptions(command: Command): Command {
  return command
    .option('--src <prefix>', 'source addresses, such as 10.1.0.0/16')
    .option('--dst <prefix>', 'destination addresses')
    .option('--proto <protocol>', 'tcp, udp, icmp … or its number')
    .option('--sport <ports>', 'source port, or a range such as 1024-65535')
    .option('--dport <ports>', 'destination port, or a range');
}

export function addLimitOptions(command: Command): Command {
  return command
    .option('--rate <rate>', 'limit: 10mbit, 500kbit, 2gbit (bits per second), 20kpps (packets per second)')
    .option('--burst <size>', 'what may pass at once: 64kb, or "20 pkts" (default: 10 ms at the rate)')
    .addOption(new Option('--scope <scope>', 'who shares the limit (default: rule)').choices(['rule', 'flow']))
    .addOption(
      new Option('--mode <mode>', 'drop or delay what is over it (default: police)').choices(['police', 'shape']),
    );
}

export function addRuleOptions(command: Command): Command {
  addMatchOptions(command)
    .option('--priority <number>', 'the highest wins (default: 0)', numberOrText)
    .addOption(new Option('--direction <direction>', 'default: ingress').choices(['ingress', 'egress']))
    .addOption(new Option('--action <action>', 'default: pass').choices(['pass', 'drop']))
    .option('--queues <list>', 'queues that its flows use, such as 3,4 or 0-7')
    .option('--shadow', 'count what would be dropped, drop nothing');
  return addLimitOptions(command);
}

/** In the form that rule files have. Values are checked where those are. */
export function ruleInput(id: number | string | undefined, options: RuleOptions): Record<string, unknown> {
  const { priority, direction, action, queues, shadow } = options;
  const match = matchInput(options);
  const limit = limitInput(options);
  return {
    ...(id === undefined ? {} : { id }),
    ...(priority === undefined ? {} : { priority }),
    ...(direction === undefined ? {} : { direction }),
    ...(Object.keys(match).length === 0 ? {} : { match }),
    action: action ?? 'pass',
    ...(limit === undefined ? {} : { limit }),
    ...(queues === undefined ? {} : { queues: parseQueueList(queues) }),
    ...(shadow === undefined ? {} : { shadow }),
  };
}

export function matchInput({ src, dst, proto, sport, dport }: MatchOptions): Record<string, unknown> {
  return {
    ...(src === undefined ? {} : { src }),
    ...(dst === undefined ? {} : { dst }),
    ...(proto === undefined ? {} : { proto }),
    ...(sport === undefined ? {} : { srcPort: sport }),
    ...(dport === undefined ? {} : { dstPort: dport }),
  };
}

/** Undefined without any option of a limit. */
export function limitInput({ rate, burst, scope, mode }: LimitOptions): Record<string, unknown> | undefined {
  const limit = {
    ...(rate === undefined ? {} : { rate }),
    ...(burst === undefined ? {} : { burst }),
    ...(scope === undefined ? {} : { scope }),
    ...(mode === undefined ? {} : { mode }),
  };
  return Object.keys(limit).length === 0 ? undefined : limit;
}
