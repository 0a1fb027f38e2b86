// SPDX-License-Identifier: Apache-2.0
/**
 * Boots a guest for each machine that a suite runs on, and reports the checks of its suites as tests.
 * Environment: what harness/machines.ts names; VNIC_VM_VERBOSE=1 shows what the guest says beside its results.
 */
import { skip } from '../support/skip.ts';
import { suites } from './guest/suites.ts';
import { Guests } from './harness/guests.ts';
import { isMachineWanted, isShortRun, isSuiteWanted, machineNames, machines } from './harness/machines.ts';
import { buildUpgrade, compileObject, compilers } from './harness/objects.ts';
import type { GuestSession } from './harness/session.ts';

const TIMEOUT_MS = 15 * 60_000;

const orders = machineNames
  .filter(isMachineWanted)
  .map((name) => ({
    name,
    machine: machines[name],
    suites: Object.keys(suites).filter((suite) => {
      const { machines: all, short } = suites[suite]!;
      return isSuiteWanted(suite) && (isShortRun ? short : all).includes(name);
    }),
  }))
  .filter((order) => order.suites.length > 0);

describe('on virtio_net', function () {
  this.timeout(TIMEOUT_MS);
  const guests = new Guests(orders);

  before(() => {
    // The guest has no compiler; an object that is missing there is skipped there.
    for (const compiler of compilers) compileObject(compiler);
    if (orders.some((order) => order.suites.includes('life'))) buildUpgrade();
    guests.start();
  });
  after(() => guests.end());

  orders.forEach(({ name: machineName, machine, suites: names }, index) => {
    describe(`a guest with ${machine.cpus} CPUs, ${machine.title} (${machineName})`, () => {
      let session: GuestSession | undefined;

      before(async () => {
        session = await guests.session(index);
        console.log(`    kernel ${session.kernelRelease}`);
      });
      after(() => {
        if (process.env['VNIC_VM_VERBOSE'] === '1') console.log(session?.output());
        session?.dispose();
      });

      for (const name of names) {
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
  });
});
