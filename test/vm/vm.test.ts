// SPDX-License-Identifier: Apache-2.0
/**
 * Boots a guest for each configuration and reports the checks of its suites as tests.
 * Environment: VNIC_VM_VERBOSE=1 shows what the guest says beside its results.
 */
import { skip } from '../support/skip.ts';
import type { Suite } from './guest/checks.ts';
import { suite as detach } from './guest/detach.ts';
import { suite as egress } from './guest/egress.ts';
import { suite as ingress } from './guest/ingress.ts';
import { suite as instruments } from './guest/instruments.ts';
import { suite as programs } from './guest/programs.ts';
import type { MachineOptions } from './harness/machine.ts';
import { compileObject, compilers } from './harness/objects.ts';
import { GuestSession } from './harness/session.ts';

const TIMEOUT_MS = 10 * 60_000;

/** By their file in test/vm/guest, which the guest loads for itself. */
const suites: Readonly<Record<string, Suite>> = { programs, instruments, ingress, egress, detach };

const configurations: readonly MachineOptions[] = [
  { cpus: 8, queues: 32, suites: ['programs', 'instruments', 'ingress', 'egress', 'detach'] },
];

for (const configuration of configurations) {
  describe(`a guest with ${configuration.cpus} CPUs and ${configuration.queues} queues`, function () {
    this.timeout(TIMEOUT_MS);
    let session: GuestSession | undefined;

    before(async () => {
      // The guest has no compiler; an object that is missing there is skipped there.
      for (const compiler of compilers) compileObject(compiler);
      session = await GuestSession.boot(configuration);
      console.log(`    kernel ${session.kernelRelease}`);
    });
    after(() => {
      if (process.env['VNIC_VM_VERBOSE'] === '1') console.log(session?.output());
      session?.dispose();
    });

    for (const name of configuration.suites) {
      const suite = suites[name]!;
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
