// SPDX-License-Identifier: Apache-2.0
/** Runs in the guest: the suites that are named, one line of JSON for each result. */
import { createInterface } from 'node:readline';
import { inspect } from 'node:util';
import { loadNative } from '../../../src/loader/ffi/index.ts';
import type { GuestLine, HostLine, PeerReply, PeerRequest } from '../harness/protocol.ts';
import { type Check, type Guest, Skipped, type Suite } from './checks.ts';
import { setUpNic } from './nic.ts';

const waiting = new Map<number, PromiseWithResolvers<PeerReply>>();
let lastId = 0;

function say(line: GuestLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

createInterface({ input: process.stdin }).on('line', (text) => {
  const { id, reply, error } = JSON.parse(text) as HostLine;
  const asked = waiting.get(id);
  waiting.delete(id);
  if (error !== undefined) asked?.reject(new Error(error));
  else asked?.resolve(reply ?? {});
});

const guest: Guest = {
  native: loadNative(),
  ask(request: PeerRequest) {
    const asked = Promise.withResolvers<PeerReply>();
    waiting.set(++lastId, asked);
    say({ kind: 'ask', id: lastId, request });
    return asked.promise;
  },
};

async function runCheck(name: string, { title, run }: Check): Promise<void> {
  const check = `${name}: ${title}`;
  say({ kind: 'started', check });
  const startMs = performance.now();
  try {
    await run(guest);
    say({ kind: 'passed', check });
  } catch (error) {
    if (error instanceof Skipped) say({ kind: 'skipped', check, reason: error.message });
    else say({ kind: 'failed', check, error: inspect(error) });
  }
  console.log(`${check}: ${Math.round(performance.now() - startMs)} ms`);
}

setUpNic();
for (const name of (process.argv[2] ?? '').split(',')) {
  const { suite } = (await import(`./${name}.ts`)) as { suite: Suite };
  for (const check of suite.checks) await runCheck(name, check);
}
process.exit();
