// SPDX-License-Identifier: Apache-2.0
/** The daemon under requests of every wrong kind, many of them, with right ones in between. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { Controller } from '../../src/app/controller.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { formatRule } from '../../src/steering/rules/format.ts';
import { parseRules } from '../../src/steering/rules/parse.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { matchRules } from '../../src/steering/rules/reference.ts';
import { CliRig } from '../support/cli.ts';
import { TestDaemon } from '../support/daemon.ts';
import { inMiB, memoryEnvironment, memoryText, settledMemory, total } from '../support/daemon-memory.ts';
import { type Endpoint, KeptConnection, perform, type WireAnswer } from '../support/hostile-client.ts';
import {
  bigIndices,
  exampleAzs,
  exampleRules,
  type HostileSetting,
  hostileRequest,
} from '../support/hostile-requests.ts';
import { hostileScript } from '../support/hostile-scripts.ts';
import { randomFor } from '../support/hostile-values.ts';

/** To make a failure again: HOSTILE_SEED as printed, HOSTILE_FIRST=index HOSTILE_REQUESTS=1. */
const SEED = Number(process.env['HOSTILE_SEED'] ?? 1 + Math.floor(Math.random() * 2 ** 31));
const REQUESTS = Number(process.env['HOSTILE_REQUESTS'] ?? 100_000);
const FIRST = Number(process.env['HOSTILE_FIRST'] ?? 0);
const WARM_UP = Math.min(REQUESTS, 10_000);
/** Of the warm-up, far from the others. */
const FIRST_WARM_UP = 50_000_000;

const CONNECTIONS = 16;
const SLOW_CONNECTIONS = 48;
const ANSWER_LIMIT_MS = 60_000;
const MEMORY_TOLERANCE = 0.2;

const sourceFolder = path.resolve(import.meta.dirname, '../..');

const range = (first: number, count: number): number[] => Array.from({ length: count }, (_, n) => first + n);

class Tally {
  readonly byStatus = new Map<number, number>();
  readonly unanswered = new Map<string, number>();
  requests = 0;
  valid = 0;

  add(status: number): void {
    this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + 1);
  }

  toString(): string {
    const statuses = [...this.byStatus].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`);
    const closed = [...this.unanswered].map(([name, count]) => `${name}: ${count}`);
    return `${statuses.join(', ')}; closed without an answer: ${closed.join(', ') || 'none'}`;
  }
}

describe('a daemon under hostile requests', function () {
  this.timeout(900_000);
  let rig: CliRig;
  let other: CliRig;
  let daemon: TestDaemon;
  let setting: HostileSetting;
  let endpoints: Record<'unix' | 'tcp', Endpoint>;
  let leak: RegExp;
  let memoryFile: string;

  const apiPath = (rest = ''): string => `/api/v1/devices/${encodeURIComponent(setting.device)}${rest}`;

  before(async () => {
    rig = new CliRig('hostile');
    other = new CliRig('hostile-b');
    memoryFile = path.join(rig.folder, 'memory.json');
    daemon = await TestDaemon.start({
      daemon: `  limits: {requests_per_second: 1000000, open_requests: 2000, connections: 2000, body_bytes: 1200000, request_timeout_ms: 4000}`,
      env: { ...memoryEnvironment(memoryFile), METRICS_CACHE_TTL: '1' },
    });
    setting = {
      device: `vnic0@${rig.guest}`,
      other: `vnic0@${other.guest}`,
      tokens: { read: daemon.readToken.token, write: daemon.writeToken.token },
    };
    endpoints = { unix: { path: daemon.socket }, tcp: { host: '127.0.0.1', port: daemon.port } };
    const secrets = [daemon.readToken.token, daemon.writeToken.token, sourceFolder];
    const escaped = secrets.map((secret) => secret.replaceAll(/[/.+]/g, '\\$&')).join('|');
    leak = new RegExp(`${escaped}|node_modules|node:internal|file:///|\\bat [\\w.<>]+ \\(|\\n +at `);
    await daemon.ask('POST', '/api/v1/devices', {
      body: { name: 'vnic0', netns: rig.guest, maxFlows: 1024, maxRules: 1024, azs: exampleAzs, rules: exampleRules },
    });
  });

  after(async () => {
    for (const device of [setting?.device, setting?.other]) {
      if (device !== undefined) {
        await daemon.send('DELETE', `/api/v1/devices/${encodeURIComponent(device)}?force=true`).catch(() => null);
      }
    }
    await daemon?.[Symbol.asyncDispose]();
    for (const one of [rig, other]) {
      one?.run(['detach', 'vnic0', '--force']);
      one?.[Symbol.dispose]();
    }
  });

  function report(index: number, bytes: Buffer, what: string): Error {
    const start = JSON.stringify(bytes.toString('latin1', 0, 500));
    return new Error(`seed ${SEED}, request ${index}: ${what}\n  it begins with ${start}\n  stderr: ${daemon.stderr}`);
  }

  function judge(index: number, bytes: Buffer, { status, head, body }: WireAnswer): void {
    const isRedirect = status === 302 && /\r\nlocation: \/api\/v1\/reference\r\n/i.test(head);
    if (!isRedirect && (status < 200 || status >= 500 || (status >= 300 && status < 400))) {
      throw report(index, bytes, `answered with ${status}: ${body.toString('latin1', 0, 1000)}`);
    }
    const found = leak.exec(`${head}\n${body.toString('latin1')}`);
    if (found !== null)
      throw report(index, bytes, `the answer has ${JSON.stringify(found[0])}: ${body.toString('latin1', 0, 1000)}`);
    if (status >= 400 && body.length > 0 && !/\r\ncontent-type: application\/problem\+json\r\n/i.test(head)) {
      throw report(index, bytes, `the ${status} is no problem object: ${head}`);
    }
  }

  /** One in fifty is a connection of its own, on which HTTP itself is wrong. */
  const isScript = (index: number): boolean => index % 50 === 3;

  async function performScript(index: number, tally: Tally): Promise<void> {
    const script = hostileScript(SEED, Math.floor(index / 50), setting);
    const bytes = Buffer.concat(script.steps.filter((step) => Buffer.isBuffer(step)));
    const { answers, rest, hangs } = await perform(endpoints[script.over], script, ANSWER_LIMIT_MS);
    if (hangs) throw report(index, bytes, `${script.name}: the connection stays open`);
    if (script.end !== 'abort' && rest.length > 0)
      throw report(index, bytes, `${script.name}: half an answer: ${rest.toString()}`);
    if (answers.length < script.answers) {
      throw report(
        index,
        bytes,
        `${script.name}: ${answers.length} answers instead of ${script.answers} (${script.over})`,
      );
    }
    for (const answer of answers) {
      judge(index, bytes, answer);
      tally.add(answer.status);
    }
    if (answers.length === 0) tally.unanswered.set(script.name, (tally.unanswered.get(script.name) ?? 0) + 1);
    tally.requests += Math.max(1, answers.length);
  }

  /** Sends requests until there were so many, or one went wrong. */
  async function flood(indices: readonly number[]): Promise<Tally> {
    const tally = new Tally();
    let next = 0;
    let failure: unknown = null;
    const slow = new Set<Promise<void>>();
    const startSlow = async (index: number): Promise<void> => {
      while (slow.size >= SLOW_CONNECTIONS) await Promise.race(slow);
      const running = performScript(index, tally).catch((error: unknown) => {
        failure ??= error;
      });
      const ended = running.finally(() => slow.delete(ended));
      slow.add(ended);
    };
    const work = async (): Promise<void> => {
      const connections = { unix: new KeptConnection(endpoints.unix), tcp: new KeptConnection(endpoints.tcp) };
      while (next < indices.length && failure === null) {
        const index = indices[next++]!;
        if (isScript(index)) {
          await startSlow(index);
          continue;
        }
        const { over, bytes, isHead, isValid } = hostileRequest(SEED, index, setting);
        assert.equal(bytes.includes('eth0'), false, 'a request names a device of the machine');
        try {
          const answer = await connections[over].exchange(bytes, isHead);
          judge(index, bytes, answer);
          if (isValid && answer.status >= 300) {
            throw report(index, bytes, `a valid request was refused: ${answer.status} ${answer.body.toString()}`);
          }
          tally.add(answer.status);
        } catch (error) {
          const { message } = error as Error;
          failure ??= message.startsWith('seed') ? error : report(index, bytes, message);
        }
        tally.requests++;
        if (isValid) tally.valid++;
      }
      for (const connection of Object.values(connections)) connection.close();
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, work));
    while (slow.size > 0) await Promise.race(slow);
    if (failure !== null) throw failure;
    return tally;
  }

  it(`answers ${REQUESTS} of them with success or the caller's error, and takes no more memory`, async () => {
    console.log(`    HOSTILE_SEED=${SEED}`);
    const { pid } = daemon;
    await flood([...bigIndices(FIRST_WARM_UP), ...range(FIRST_WARM_UP, WARM_UP)]);
    const before = await settledMemory(daemon, memoryFile);
    const start = performance.now();
    const tally = await flood(range(FIRST, REQUESTS));
    const seconds = (performance.now() - start) / 1000;
    const after = await settledMemory(daemon, memoryFile);
    console.log(
      `    ${tally.requests} requests (${tally.valid} valid) in ${seconds.toFixed(1)} s: ${tally.toString()}`,
    );
    console.log(`    before: ${memoryText(before)}\n    after:  ${memoryText(after)}`);

    assert.equal(daemon.pid, pid);
    assert.equal(daemon.stderr, '');
    assert.equal((await daemon.send('GET', '/readyz')).status, 200);
    for (const [name, was, is] of [
      ['RSS', before.rssBytes, after.rssBytes],
      ['heap', total(before.heapBytes), total(after.heapBytes)],
      ['external memory', total(before.externalBytes), total(after.externalBytes)],
    ] as const) {
      assert.ok(is <= was * (1 + MEMORY_TOLERANCE), `${name} grew from ${inMiB(was)} to ${inMiB(is)}`);
    }
  });

  it('has the same rules in memory, on disk and in the kernel afterwards, and no drift', async () => {
    const own = { id: 900_100, priority: 2 ** 31 - 1, action: 'drop', match: { src: '10.78.0.0/16' } };
    await daemon.ask('PUT', apiPath('/rules/900100'), { body: own });
    const { items } = await daemon.ask<{ items: Record<string, unknown>[] }>('GET', apiPath('/rules?limit=1048576'));
    const rules = parseRules(items.map(({ counters: _counters, ...rule }) => rule));
    const status = await daemon.ask<{ drift: unknown[]; damagedFiles: unknown[]; rules: number }>('GET', apiPath());
    assert.deepEqual(status.drift, []);
    assert.deepEqual(status.damagedFiles, []);
    assert.equal(status.rules, rules.length);

    const controller = new Controller({ native: loadNative(), stateFolder: daemon.stateFolder });
    controller.withDevice({ name: 'vnic0', netns: rig.guest }, (stored) => {
      const byId = (list: typeof rules): unknown[] => list.toSorted((a, b) => a.id - b.id).map(formatRule);
      assert.deepEqual(byId([...stored.config.rules]), byId(rules));
      stored.spec.changeRules(rules, { dryRun: true });
      assert.deepEqual(new Set(stored.rules.slots().keys()), new Set(rules.map(({ id }) => id)));
      assert.deepEqual(stored.drift(), []);
    });
    controller.close();

    const random = randomFor(SEED, 1);
    let matched = 0;
    for (let count = 0; count < 200; count++) {
      const src = random.pick([
        '10.78.0.1',
        '10.66.1.2',
        '10.1.0.5',
        '10.2.3.4',
        `10.77.${random.below(256)}.${random.below(256)}`,
      ]);
      const packet = { src, dst: '10.9.0.1', srcPort: random.below(65_536), dstPort: random.pick([443, 80]) };
      const { rule } = await daemon.ask<{ rule: number | null }>('POST', apiPath('/explain'), {
        body: { ...packet, proto: 'tcp' },
      });
      const flow = {
        direction: 'ingress' as const,
        src: parseAddress(src),
        dst: parseAddress(packet.dst),
        proto: 6,
        sport: packet.srcPort,
        dport: packet.dstPort,
      };
      assert.equal(rule, matchRules(rules, flow)?.id ?? null, JSON.stringify(packet));
      if (rule !== null) matched++;
    }
    assert.ok(matched > 0);
  });

  it('has no token in its log, and stops when it is asked to', async () => {
    assert.ok(daemon.log.length >= REQUESTS / 2, `only ${daemon.log.length} lines`);
    const secrets = Object.values(setting.tokens);
    const told = daemon.log.find((line) => secrets.some((secret) => JSON.stringify(line).includes(secret)));
    assert.equal(told, undefined);
    const errors = daemon.log.filter(({ level }) => level === 'error' || level === 'fatal');
    assert.deepEqual(errors, []);
    await daemon.ask('DELETE', apiPath());
    assert.equal(await daemon.stop(), 0);
  });
});
