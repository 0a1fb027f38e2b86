// SPDX-License-Identifier: Apache-2.0
/** Runs in the guest: the suites that it is told to, one line of JSON for each result. */
import { createInterface } from 'node:readline';
import { inspect } from 'node:util';
import { loadNative } from '../../../src/loader/ffi/index.ts';
import type { GuestLine, GuestOrder, HostLine, PeerReply, PeerRequest } from '../harness/protocol.ts';
import { type Check, type Guest, Skipped } from './checks.ts';
import { setUpNic } from './nic.ts';
import { suites } from './suites.ts';

const waiting = new Map<number, PromiseWithResolvers<PeerReply>>();
let lastId = 0;

/** Commands that run in this process have their output caught; these lines are not theirs. */
const writeOut = process.stdout.write.bind(process.stdout);

function say(line: GuestLine): void {
  writeOut(`${JSON.stringify(line)}\n`);
}

const ordered = Promise.withResolvers<GuestOrder>();

createInterface({ input: process.stdin }).on('line', (text) => {
  const { id, order, reply, error } = JSON.parse(text) as HostLine;
  if (order !== undefined) return ordered.resolve(order);
  const asked = waiting.get(id);
  waiting.delete(id);
  if (error !== undefined) asked?.reject(new Error(error));
  else asked?.resolve(reply ?? {});
});

say({ kind: 'ready' });
const { machine, suites: names } = await ordered.promise;

const guest: Guest = {
  native: loadNative(),
  machine,
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
for (const name of names) {
  for (const check of suites[name]?.checks ?? []) await runCheck(name, check);
}
process.exit();
