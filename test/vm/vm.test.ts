// SPDX-License-Identifier: Apache-2.0
/** Boots a guest for each configuration and reports the checks of its suites as tests. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { findCommand } from '../../scripts/vm/initramfs.ts';
import { skip } from '../support/skip.ts';
import type { Suite } from './guest/checks.ts';
import type { MachineOptions } from './harness/machine.ts';
import { GuestSession } from './harness/session.ts';

const TIMEOUT_MS = 10 * 60_000;
const root = path.join(import.meta.dirname, '../..');

const configurations: readonly MachineOptions[] = [
  { cpus: 8, queues: 32, suites: ['programs', 'steering', 'egress'] },
];

/** The guest has no compiler. An object that is missing there is skipped there, with the reason. */
function compileObjects(): void {
  for (const compiler of ['clang-14', 'clang-19'].filter((name) => findCommand(name) !== null)) {
    const folder = `build/check/${compiler}`;
    const args = ['--no-print-directory', `${folder}/bpf/vnic.bpf.o`, `CLANG=${compiler}`, `BUILD=${folder}`];
    const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...env } = process.env;
    const result = spawnSync('make', args, { cwd: root, encoding: 'utf8', env });
    if (result.status !== 0) throw new Error(`make ${args.join(' ')} failed:\n${result.stderr}`);
  }
}

for (const configuration of configurations) {
  const suites: [name: string, suite: Suite][] = [];
  for (const name of configuration.suites) {
    const module = (await import(`./guest/${name}.ts`)) as { suite: Suite };
    suites.push([name, module.suite]);
  }

  describe(`a guest with ${configuration.cpus} CPUs and ${configuration.queues} queues`, function () {
    this.timeout(TIMEOUT_MS);
    let session: GuestSession | undefined;

    before(async () => {
      compileObjects();
      session = await GuestSession.boot(configuration);
      console.log(`    kernel ${session.kernelRelease}`);
    });
    after(() => session?.dispose());

    for (const [name, suite] of suites) {
      describe(suite.title, () => {
        for (const { title } of suite.checks) {
          it(title, async function () {
            const result = await session!.result(`${name}: ${title}`);
            if (result.kind === 'skipped') skip(this, result.reason);
            if (result.kind === 'failed') throw new Error(result.error);
          });
        }
      });
    }
  });
}
