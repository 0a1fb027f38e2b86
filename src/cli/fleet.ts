// SPDX-License-Identifier: Apache-2.0
/** vnicctl fleet. It talks to etcd, and not to a daemon; only `node` asks the daemon of this machine. */
import type { Command } from 'commander';
import { parseText } from '../config/config.ts';
import type { FleetOverview } from '../fleet/operator.ts';
import { type Context, contextOf } from './context.ts';
import { type FleetOptions, fleetOptions, withFleet } from './fleet-connection.ts';
import { nodeText, overviewText } from './fleet-text.ts';
import { wholeNumberFrom } from './numbers.ts';
import { count } from './output.ts';
import { readText } from './rule-file.ts';

export function fleetCommand(command: Command): void {
  statusCommand(command);
  nodeCommand(command);
  applyCommand(command);
  rollbackCommand(command);
  azCommand(command);
}

function statusCommand(command: Command): void {
  fleetOptions(command.command('status'))
    .description('policy, declared AZs, and every node with its revision, drift and problems')
    .action(async (options: FleetOptions, inner: Command) => {
      const context = contextOf(inner);
      const overview = await withFleet(options, (fleet) => fleet.overview());
      await context.print(overview, () => overviewText(overview));
      if (!isHealthy(overview)) process.exitCode = 1;
    });
}

/** A node reports, every node that does has what is meant for it, and nothing keeps any from it. */
function isHealthy({ nodes, problems }: FleetOverview): boolean {
  return (
    problems.length === 0 &&
    nodes.length > 0 &&
    nodes.every(
      (node) => node.problems.length === 0 && node.drift.length === 0 && node.specRevision === node.appliedRevision,
    )
  );
}

function nodeCommand(command: Command): void {
  command
    .command('node')
    .description('this machine in its fleet, as its daemon knows it; also while etcd is away')
    .action(async (_options: object, inner: Command) => {
      const context = contextOf(inner);
      const { getFromDaemon } = await import('./daemon-get.ts');
      const view = (await getFromDaemon(context.socket, '/api/v1/fleet')) as Parameters<typeof nodeText>[0];
      await context.print(view, () => nodeText(view));
    });
}

interface ApplyOptions extends FleetOptions {
  canary?: string;
  watch: number;
  maxDropRise: number;
}

const APPLY_SECONDS = 30;

function percentFrom(text: string): number {
  return wholeNumberFrom(0, 100)(text) / 100;
}

function applyCommand(command: Command): void {
  fleetOptions(command.command('apply'))
    .description('put a policy into force on all nodes, in one transaction; with --canary on some of them first')
    .argument('<file>', 'the policy (YAML or JSON); - is stdin')
    .option('--canary <share>', 'try it on so many nodes first: a number, or a share such as 10%')
    .option('--watch <seconds>', 'how long the trial has to go well', wholeNumberFrom(1, 86_400), 30)
    .option('--max-drop-rise <percent>', 'how many percent more of their packets nodes may drop', percentFrom, 0.01)
    .action(async (file: string, options: ApplyOptions, inner: Command) => {
      const context = contextOf(inner);
      const { parsePolicy } = await import('../fleet/core/policy.ts');
      const policy = parsePolicy(parseText(await readText(file), file), file);
      if (context.dryRun) {
        context.write(`${file} is valid: ${count(policy.parts.length, 'part')}.`);
        return;
      }
      const spec = await withFleet(options, async (fleet) => {
        const { canary } = options;
        if (canary === undefined) return await fleet.apply(policy);
        const { rollOut } = await import('../fleet/rollout.ts');
        const interrupted = new AbortController();
        const stop = (): void => interrupted.abort();
        process.once('SIGINT', stop).once('SIGTERM', stop);
        return await rollOut(fleet, policy, {
          share: canary,
          watchSeconds: options.watch,
          maxDropRise: options.maxDropRise,
          applySeconds: APPLY_SECONDS,
          onTrial: (nodes, revision) => context.note(`Revision ${revision} is tried on ${nodes.join(', ')}.`),
          signal: interrupted.signal,
        });
      });
      await context.print(spec, () => `Revision ${spec.revision} is in force.`);
    });
}

function rollbackCommand(command: Command): void {
  fleetOptions(command.command('rollback'))
    .description('put the policy before the one in force into force again, as a new revision')
    .option('--to <revision>', 'the policy of this revision', wholeNumberFrom(1, 2 ** 31))
    .action(async (options: FleetOptions & { to?: number }, inner: Command) => {
      const context = contextOf(inner);
      const spec = await withFleet(options, (fleet) => fleet.rollback(options.to ?? null));
      await context.print(
        spec,
        () => `Revision ${spec.revision} is in force: the policy of revision ${spec.rollbackOf}.`,
      );
    });
}

function azCommand(command: Command): void {
  const az = command.command('az').description('AZs of the whole fleet');
  fleetOptions(az.command('fail'))
    .description('declare an AZ down: every node that has it takes its queues out of use')
    .argument('<name>', 'name of the AZ')
    .option('--reason <text>', 'why, for whoever looks', '')
    .option('--force', 'also where few queues would be left')
    .action(async (name: string, options: FleetOptions & { reason: string; force?: boolean }, inner: Command) => {
      const context = contextOf(inner);
      const { reason, force = false } = options;
      await changeAz(context, `${name} is declared down.`, () =>
        withFleet(options, (fleet) => fleet.failAz(name, { reason, force })),
      );
    });
  fleetOptions(az.command('recover'))
    .description('take the declaration back, whoever made it')
    .argument('<name>', 'name of the AZ')
    .action(async (name: string, options: FleetOptions, inner: Command) => {
      await changeAz(contextOf(inner), `${name} is not declared down any more.`, async () => {
        await withFleet(options, (fleet) => fleet.recoverAz(name));
        return { az: name };
      });
    });
}

async function changeAz(context: Context, done: string, change: () => Promise<object>): Promise<void> {
  if (context.dryRun) {
    context.write(`Would be done: ${done}`);
    return;
  }
  const data = await change();
  await context.print(data, () => done);
}
