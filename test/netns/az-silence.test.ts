// SPDX-License-Identifier: Apache-2.0
/** Zones that fall silent, with a daemon and without one. How fast it is seen is measured by the benchmark, not here. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelView } from '../rig/kernel-view.ts';
import { ip, SurvivalRig, smallMaps, until } from '../support/survival.ts';

const SILENCE_MS = 100;
const names = ['a', 'b', 'c'] as const;
type Zone = (typeof names)[number];
const nameOf = (zone: Zone): string => `az-${zone}`;
const netOf = (zone: Zone): number => names.indexOf(zone) + 1;

/** Of flap damping: the third failure in a row is suppressed, for about as long as a half-life. */
const flap = { penalty: 1000, half_life_ms: 4000, suppress: 2000, reuse: 1000 };

interface AzState {
  name: string;
  state: 'up' | 'failed';
  cause: string | null;
  evidence: string | null;
}

interface Table {
  usableQueues: number[];
  rows: unknown[];
}

/** Sends 4 packets every 2 ms for each zone that is on; told by lines such as `a on`, `a off`, `a flap 50 50`. */
const program = `
  const { createSocket } = require('node:dgram');
  const zones = Object.fromEntries(['a', 'b', 'c'].map((name, index) => [name, {
    on: () => false,
    sockets: Array.from({ length: 4 }, (_, i) => createSocket('udp4').bind(40000 + i, '10.9.' + (index + 1) + '.2')),
  }]));
  const data = Buffer.alloc(100);
  for (const { sockets } of Object.values(zones)) for (const socket of sockets) socket.on('error', () => {});
  setInterval(() => {
    for (const zone of Object.values(zones)) if (zone.on()) for (const s of zone.sockets) s.send(data, 7000, '10.9.0.1');
  }, 2);
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const [name, what, onMs, offMs] = line.split(' ');
    const begun = performance.now();
    zones[name].on = what === 'on' ? () => true : what === 'off' ? () => false
      : () => (performance.now() - begun) % (Number(onMs) + Number(offMs)) < Number(onMs);
  }).on('close', () => process.exit());`;

describe('a zone that falls silent', function () {
  // The machine may be busy.
  this.timeout(300_000);
  let rig: SurvivalRig;
  let sender: ChildProcess;

  const tell = (line: string): boolean => sender.stdin!.write(`${line}\n`);
  const configOf = (zone: Zone) => ({
    name: nameOf(zone),
    queues: { a: '0-10', b: '11-21', c: '22-31' }[zone],
    prefixes: [`10.9.${netOf(zone)}.0/24`],
    silence_ms: SILENCE_MS,
    hold_down_ms: 0,
    flap: { penalty: 0 } as object,
  });
  const azs = async (): Promise<AzState[]> => (await rig.ask<{ items: AzState[] }>('GET', rig.url('/azs'))).items;
  const stateOf = async (zone: Zone): Promise<AzState> => (await azs()).find(({ name }) => name === nameOf(zone))!;
  const table = async (): Promise<Table> => await rig.ask<Table>('GET', rig.url('/table'));
  const events = (type: string, zone: Zone) => rig.events(type).filter((event) => event['az'] === nameOf(zone));

  /** Until the kernel has heard enough of each zone that is on. */
  async function armed(zones: readonly Zone[]): Promise<void> {
    await until('zones that are heard', async () => {
      const { items } = await rig.ask<{ items: { name: string; health: { silence: { armed: boolean } } }[] }>(
        'GET',
        rig.url('/azs'),
      );
      const heard = items.filter(({ health }) => health.silence.armed).map(({ name }) => name);
      return zones.every((zone) => heard.includes(nameOf(zone))) || null;
    });
  }

  before(async () => {
    rig = await SurvivalRig.start('silence');
    for (const zone of names) ip(`-n ${rig.rig.peer} addr add 10.9.${netOf(zone)}.2/16 dev peer0`);
    await rig.attach({ ...smallMaps, azs: names.map(configOf) });
    sender = spawn('nsenter', [`--net=/run/netns/${rig.rig.peer}`, process.execPath, '-e', program], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
  });
  beforeEach(async () => {
    for (const zone of names) tell(`${zone} on`);
    await armed(names);
    await until('zones that are up', async () => (await azs()).every(({ state }) => state === 'up') || null);
  });
  after(async () => {
    sender?.kill('SIGKILL');
    await rig?.[Symbol.asyncDispose]();
  });

  it('is failed over with its evidence, and taken back when it is heard again', async () => {
    const before = await table();
    const [failed, recovered] = [events('az.failed', 'b').length, events('az.recovered', 'b').length];
    tell('b off');
    const event = await until('a failover', () => events('az.failed', 'b')[failed]);
    assert.deepEqual([event['cause'], event['collateral']], ['silence', 0]);
    assert.match(String(event['evidence']), /^nothing came from it for \d+\.\d ms, \d+ packets in 100 ms before$/);
    const state = await stateOf('b');
    assert.deepEqual([state.state, state.cause, state.evidence], ['failed', 'silence', event['evidence']]);
    assert.deepEqual(
      (await table()).usableQueues,
      before.usableQueues.filter((queue) => queue < 11 || queue > 21),
    );
    const { drift } = await rig.ask<{ drift: unknown[] }>('GET', rig.url());
    assert.deepEqual(drift, []);
    const metrics = (await rig.daemon.send('GET', '/metrics')).text;
    assert.match(metrics, /failovers_total\{.*az="az-b",cause="silence".*\} [1-9]/);

    tell('b on');
    const back = await until('a recovery', () => events('az.recovered', 'b')[recovered]);
    assert.equal(back['cause'], 'silence');
    assert.match(String(back['evidence']), /^packets at \d+ looks in a row$/);
    assert.deepEqual((await table()).rows, before.rows);
  });

  it('stays failed when somebody failed it by hand, however much it is heard', async () => {
    await rig.ask('POST', rig.url('/azs/az-c/fail'));
    await sleep(1500);
    const { state, cause } = await stateOf('c');
    assert.deepEqual([state, cause], ['failed', 'manual']);
    await rig.ask('POST', rig.url('/azs/az-c/recover'));
  });

  it('is failed over while the daemon is dead, and a new one takes that over and takes it back', async () => {
    const before = await table();
    await rig.daemon.kill();
    using kernel = new KernelView(rig.native, rig.id());
    tell('a off');
    await until('a switch by the kernel', () => (kernel.isLost(1) ? true : null));
    await rig.daemon.run();
    const { state, cause, evidence } = await stateOf('a');
    assert.equal(state, 'failed');
    assert.ok(cause === 'silence' || cause === 'deadman', String(cause));
    assert.match(evidence ?? '', /^nothing came from it for /);
    assert.deepEqual((await rig.ask<{ drift: unknown[] }>('GET', rig.url())).drift, []);
    tell('a on');
    await until('a recovery', async () => ((await stateOf('a')).state === 'up' ? true : null));
    assert.deepEqual((await table()).rows, before.rows);
  });

  it('is not moved to and fro when it flaps ten times a second for half a minute', async () => {
    const before = await table();
    const patient = { ...configOf('b'), silence_ms: 20, flap: { ...flap, half_life_ms: 60_000 } };
    await rig.ask('PUT', rig.url('/azs/az-b'), { body: patient });
    await armed(names);
    const failed = events('az.failed', 'b').length;
    tell('b flap 50 50');
    await sleep(30_000);
    const switches = events('az.failed', 'b').length - failed;
    console.log(`      ${switches} failovers in 30 s of 300 silences of 50 ms; the third would be suppressed`);
    // Each pause is longer than silence_ms, but one that was just silent is not armed again by 50 ms of packets.
    assert.ok(switches >= 1 && switches <= 3, `${switches} failovers`);
    tell('b on');
    await rig.ask('PUT', rig.url('/azs/az-b'), { body: configOf('b') });
    await until('all in use', async () => ((await stateOf('b')).state === 'up' ? true : null));
    assert.deepEqual((await table()).rows, before.rows);
  });

  it('is left out for a while when it dies again and again', async () => {
    const before = await table();
    await rig.ask('PUT', rig.url('/azs/az-b'), { body: { ...configOf('b'), flap } });
    await armed(names);
    const [failed, recovered] = [events('az.failed', 'b').length, events('az.recovered', 'b').length];
    // Heard for long enough to be taken back and to be armed, then silent for long enough.
    tell('b flap 2000 400');
    await until('three failures', () => events('az.failed', 'b')[failed + 2]);
    await sleep(2400);
    assert.equal(events('az.recovered', 'b').length - recovered, 2, 'the third is suppressed');
    assert.equal((await stateOf('b')).state, 'failed');
    tell('b on');
    await until('a recovery when it has been quiet', () => events('az.recovered', 'b')[recovered + 2]);
    assert.deepEqual((await table()).rows, before.rows);
  });

  it('has company: all fall silent one after the other, and come back in another order', async () => {
    const before = await table();
    tell('a off');
    await until('the first', async () => ((await stateOf('a')).state === 'failed' ? true : null));
    await armed(['b', 'c']);
    tell('c off');
    await until('the second', async () => ((await stateOf('c')).state === 'failed' ? true : null));
    await armed(['b']);
    tell('b off');
    await sleep(4 * SILENCE_MS);
    assert.equal((await stateOf('b')).state, 'up', 'the last one keeps the queues');
    assert.ok((await table()).usableQueues.length > 0);
    for (const zone of ['c', 'b', 'a'] as const) tell(`${zone} on`);
    await until('all in use', async () => (await azs()).every(({ state }) => state === 'up') || null);
    assert.deepEqual((await table()).rows, before.rows);
  });

  it('is not looked at any more when its silence_ms is taken away', async () => {
    const { silence_ms: _, ...rest } = configOf('b');
    await rig.ask('PUT', rig.url('/azs/az-b'), { body: rest });
    const failed = events('az.failed', 'b').length;
    tell('b off');
    await sleep(6 * SILENCE_MS);
    assert.equal(events('az.failed', 'b').length, failed);
    await rig.ask('PUT', rig.url('/azs/az-b'), { body: configOf('b') });
  });
});
