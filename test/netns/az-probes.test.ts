// SPDX-License-Identifier: Apache-2.0
/** AZs that die and come back, found out by the probes of a real daemon: each AZ is a namespace behind the device. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { ip, SurvivalRig, smallMaps, until } from '../support/survival.ts';

type Kind = 'tcp' | 'http' | 'udp' | 'icmp';

interface Table {
  rows: { row: number; az: string | null; queues: (number | null)[] }[];
}

interface AzState {
  name: string;
  state: 'up' | 'failed';
  cause: string | null;
  since: string | null;
  evidence: string | null;
}

interface AzEvent {
  az: string;
  cause: string;
  evidence: string;
  moved: number;
  collateral: number;
  time: string;
  targets: { target: string; failures: number; failingForMs: number | null; lastError: string | null }[];
}

const kinds: readonly Kind[] = ['tcp', 'http', 'udp', 'icmp'];
const ports: Record<Kind, number | null> = { tcp: 443, http: 80, udp: 7, icmp: null };
const nameOf = (kind: Kind): string => `az-${kind}`;
const QUEUES = 8;

const INTERVAL_MS = 100;
const FALL = 3;
const RISE = 5;
/** No penalty: tests let AZs fail again and again. */
const flap = { penalty: 0 };

const servers: Record<Exclude<Kind, 'icmp'>, string> = {
  tcp: `require('net').createServer((s) => s.on('error', () => {})).listen(443, '0.0.0.0', () => console.log('up'))`,
  http: `require('http').createServer((q, s) => s.writeHead(q.url === '/healthz' ? 200 : 500).end()).listen(80, '0.0.0.0', () => console.log('up'))`,
  udp: `const u = require('dgram').createSocket('udp4'); u.on('message', (m, r) => setTimeout(() => u.send(m, r.port, r.address), Number(process.env.DELAY_MS))); u.bind(7, '0.0.0.0', () => console.log('up'))`,
};

/** An AZ: a namespace of its own, routed through the peer. ICMP is answered by its kernel. */
class AzHost {
  readonly kind: Kind;
  readonly address: string;
  readonly #namespace: string;
  #server: ChildProcess | undefined;

  constructor(rig: SurvivalRig, kind: Kind) {
    this.kind = kind;
    const { guest, peer } = rig.rig;
    const subnet = kinds.indexOf(kind) + 1;
    this.address = `10.${subnet}.0.1`;
    this.#namespace = `${guest}-${kind}`;
    ip(`netns add ${this.#namespace}`);
    ip(`-n ${peer} link add ${kind}0 type veth peer name link0 netns ${this.#namespace}`);
    ip(`-n ${peer} addr add 10.${subnet}.0.254/16 dev ${kind}0`);
    ip(`-n ${this.#namespace} addr add ${this.address}/16 dev link0`);
    ip(`-n ${peer} link set ${kind}0 up`);
    ip(`-n ${this.#namespace} link set link0 up`);
    ip(`-n ${this.#namespace} route add default via 10.${subnet}.0.254`);
    ip(`-n ${guest} route add 10.${subnet}.0.0/16 via 10.9.0.2`);
    // A checksum that is left to the device is not made when the frame goes through XDP.
    execFileSync('nsenter', [`--net=/run/netns/${this.#namespace}`, 'ethtool', '-K', 'link0', 'tx', 'off'], {
      stdio: 'ignore',
    });
  }

  get config(): Record<string, unknown> {
    const port = ports[this.kind];
    const first = kinds.indexOf(this.kind) * QUEUES;
    return {
      name: nameOf(this.kind),
      queues: `${first}-${first + QUEUES - 1}`,
      prefixes: [`${this.address.replace(/1$/, '0')}/16`],
      hold_down_ms: 0,
      flap,
      probe: {
        type: this.kind,
        target: port === null ? this.address : `${this.address}:${port}`,
        interval_ms: INTERVAL_MS,
        fall: FALL,
        rise: RISE,
        ...(this.kind === 'http' ? { path: '/healthz', status: 200 } : {}),
      },
    };
  }

  /** @param delayMs of answers over UDP */
  async start(delayMs = 0): Promise<void> {
    ip(`-n ${this.#namespace} link set link0 up`);
    ip(`-n ${this.#namespace} route replace default via ${this.address.replace(/\.1$/, '.254')}`);
    if (this.kind === 'icmp' || this.#server !== undefined) return;
    const namespace = `--net=/run/netns/${this.#namespace}`;
    const server = spawn('nsenter', [namespace, process.execPath, '-e', servers[this.kind]], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, DELAY_MS: String(delayMs) },
    });
    this.#server = server;
    await once(server.stdout, 'data');
  }

  /** The server dies; for ICMP the link goes down. */
  async kill(): Promise<void> {
    if (this.kind === 'icmp') {
      ip(`-n ${this.#namespace} link set link0 down`);
      return;
    }
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  }

  async remove(): Promise<void> {
    await this.kill();
    spawnSync('ip', ['netns', 'del', this.#namespace]);
  }
}

describe('AZs watched by probes', function () {
  // The machine may be busy.
  this.timeout(300_000);
  let rig: SurvivalRig;
  const hosts = new Map<Kind, AzHost>();
  const host = (kind: Kind): AzHost => hosts.get(kind)!;

  before(async () => {
    rig = await SurvivalRig.start('probes');
    execFileSync('nsenter', [
      `--net=/run/netns/${rig.rig.peer}`,
      'sh',
      '-c',
      'echo 1 > /proc/sys/net/ipv4/ip_forward; ethtool -K peer0 tx off >/dev/null',
    ]);
    for (const kind of kinds) hosts.set(kind, new AzHost(rig, kind));
    for (const one of hosts.values()) await one.start();
    await rig.attach({ ...smallMaps, maxRules: 131_072, azs: [...hosts.values()].map(({ config }) => config) });
  });
  after(async () => {
    for (const one of hosts.values()) await one.remove();
    await rig?.[Symbol.asyncDispose]();
  });

  const events = (type: string, kind: Kind): AzEvent[] =>
    rig.events(type).filter((event) => event['az'] === nameOf(kind)) as unknown as AzEvent[];
  const next = async (type: string, kind: Kind, seen: number): Promise<AzEvent> =>
    await until(`${type} of ${nameOf(kind)}`, () => events(type, kind)[seen]);
  const azs = async (): Promise<Map<string, AzState>> => {
    const { items } = await rig.ask<{ items: AzState[] }>('GET', rig.url('/azs'));
    return new Map(items.map((az) => [az.name, az]));
  };
  const stateOf = async (kind: Kind): Promise<AzState> => (await azs()).get(nameOf(kind))!;
  const table = async (): Promise<Table> => await rig.ask<Table>('GET', rig.url('/table'));

  /** Kills it, and gives the event and how long it took. */
  async function fail(kind: Kind): Promise<{ event: AzEvent; tookMs: number }> {
    const seen = events('az.failed', kind).length;
    const start = Date.now();
    await host(kind).kill();
    const event = await next('az.failed', kind, seen);
    return { event, tookMs: Date.parse(event.time) - start };
  }

  async function recover(kind: Kind): Promise<{ event: AzEvent; tookMs: number }> {
    const seen = events('az.recovered', kind).length;
    await host(kind).start();
    const start = Date.now();
    const event = await next('az.recovered', kind, seen);
    return { event, tookMs: Date.parse(event.time) - start };
  }

  for (const kind of kinds) {
    it(`are failed over when ${kind} is not answered, and taken back when it is`, async () => {
      const first = kinds.indexOf(kind) * QUEUES;
      const isLost = (queue: number | null): boolean => queue !== null && queue >= first && queue < first + QUEUES;
      const before = await table();
      const { event, tookMs } = await fail(kind);
      console.log(`      ${kind}: dead for ${tookMs} ms when failed over (fall × interval + timeout: 400 ms)`);
      assert.deepEqual([event.cause, event.collateral], ['probe', 0]);
      assert.ok(event.moved > 0);
      assert.match(event.evidence, /^0 of 1 target answer, 1 needed: 10\.\d\.0\.1\S* .+ \(3 in a row\)$/);
      const { state, cause, evidence, since } = await stateOf(kind);
      assert.deepEqual([state, cause, evidence], ['failed', 'probe', event.evidence]);
      assert.ok(since !== null);

      const after = await table();
      for (const [row, { queues }] of after.rows.entries()) {
        for (const [bucket, queue] of queues.entries()) {
          const old = before.rows[row]?.queues[bucket] ?? null;
          assert.ok(!isLost(queue), `row ${row} bucket ${bucket} is still at queue ${queue}`);
          if (!isLost(old)) assert.equal(queue, old, `row ${row} bucket ${bucket} moved without need`);
        }
      }
      for (const [name, az] of await azs()) assert.equal(az.state, name === nameOf(kind) ? 'failed' : 'up', name);
      const metrics = (await rig.daemon.send('GET', '/metrics')).text;
      assert.match(metrics, new RegExp(`failovers_total\\{.*az="az-${kind}",cause="probe".*\\} [1-9]`));

      const back = await recover(kind);
      console.log(`      ${kind}: alive for ${back.tookMs} ms when recovered (rise × interval: 500 ms)`);
      assert.equal(back.event.cause, 'probe');
      assert.deepEqual((await table()).rows, before.rows);
      assert.deepEqual((await stateOf(kind)).evidence, null);
    });
  }

  it('are pinged over a ping socket where the namespace allows it', async () => {
    const range = '/proc/sys/net/ipv4/ping_group_range';
    rig.rig.inGuest('sh', '-c', `echo 0 2147483647 >${range}`);
    const { event } = await fail('icmp');
    assert.equal(event.collateral, 0);
    await recover('icmp');
    rig.rig.inGuest('sh', '-c', `echo 1 0 >${range}`);
  });

  it('stay failed for hold_down_ms, however well they answer', async () => {
    const holdDownMs = 3000;
    await rig.ask('PUT', rig.url('/azs/az-tcp'), { body: { ...host('tcp').config, hold_down_ms: holdDownMs } });
    const { event: failed } = await fail('tcp');
    const { event: recovered } = await recover('tcp');
    assert.ok(Date.parse(recovered.time) - Date.parse(failed.time) >= holdDownMs - 5);
    await rig.ask('PUT', rig.url('/azs/az-tcp'), { body: host('tcp').config });
  });

  it('are suppressed when they flap', async () => {
    const damping = { penalty: 1000, half_life_ms: 1500, suppress: 900, reuse: 500 };
    await rig.ask('PUT', rig.url('/azs/az-tcp'), { body: { ...host('tcp').config, flap: damping } });
    const { event: failed } = await fail('tcp');
    const { event: recovered } = await recover('tcp');
    // One failure is too much already: its penalty is down to half after one half-life.
    assert.ok(Date.parse(recovered.time) - Date.parse(failed.time) >= damping.half_life_ms - 5);
    await rig.ask('PUT', rig.url('/azs/az-tcp'), { body: host('tcp').config });
  });

  it('are left failed where auto_recover is off', async () => {
    await rig.ask('PUT', rig.url('/azs/az-udp'), { body: { ...host('udp').config, auto_recover: false } });
    await fail('udp');
    await host('udp').start();
    await sleep(INTERVAL_MS * RISE * 3);
    assert.equal((await stateOf('udp')).state, 'failed');
    await rig.ask('POST', rig.url('/azs/az-udp/recover'));
    await rig.ask('PUT', rig.url('/azs/az-udp'), { body: host('udp').config });
    assert.equal((await stateOf('udp')).state, 'up');
  });

  it('that were failed by hand are recovered by hand only', async () => {
    await rig.ask('POST', rig.url('/azs/az-http/fail'));
    await sleep(INTERVAL_MS * RISE * 3);
    assert.deepEqual([(await stateOf('http')).cause, (await stateOf('http')).evidence], ['manual', null]);
    await rig.ask('POST', rig.url('/azs/az-http/recover'));
    // Dead by then: found out anew.
    const { event } = await fail('http');
    assert.equal(event.targets[0]?.failures, FALL);
    await recover('http');
  });

  it('stay up where too little would be left, which is told once', async () => {
    for (const kind of ['tcp', 'http', 'udp'] as const) await fail(kind);
    await host('icmp').kill();
    const refused = await next('az.fail_refused', 'icmp', 0);
    assert.equal((refused as unknown as { code: string }).code, 'policy_refused');
    assert.match(refused.evidence, /^0 of 1 target answer/);
    // It is asked for again each second.
    await sleep(2500);
    assert.equal((await stateOf('icmp')).state, 'up');
    assert.equal(events('az.fail_refused', 'icmp').length, 1);
    const seen = events('az.failed', 'icmp').length;
    await recover('tcp');
    await next('az.failed', 'icmp', seen);
    for (const kind of ['http', 'udp', 'icmp'] as const) await recover(kind);
  });

  it('are watched on after the daemon was killed, each as it was', async () => {
    const { event } = await fail('tcp');
    await rig.ask('POST', rig.url('/azs/az-http/fail'));
    await rig.daemon.kill();
    await rig.daemon.run();
    assert.deepEqual(
      [(await stateOf('tcp')).cause, (await stateOf('tcp')).evidence, (await stateOf('http')).cause],
      ['probe', event.evidence, 'manual'],
    );
    // What died meanwhile is found by the new daemon.
    const died = fail('udp');
    const { event: recovered } = await recover('tcp');
    assert.equal(recovered.cause, 'probe');
    await died;
    assert.equal((await stateOf('http')).state, 'failed');
    await rig.ask('POST', rig.url('/azs/az-http/recover'));
    await recover('udp');
  });

  it('are not taken for dead while 100,000 rules are being loaded', async () => {
    const rules = (subnet: number) =>
      Array.from({ length: 100_000 }, (_, index) => ({
        id: index + 1,
        match: { src: `172.${subnet + (index >> 16)}.${(index >> 8) & 255}.${index & 255}` },
        action: 'drop',
      }));
    const count = (): number => rig.events('az.failed').length + rig.events('az.fail_refused').length;
    const { probe, ...config } = host('udp').config;
    const slow = { ...(probe as object), interval_ms: 1000, timeout_ms: 1000, fall: 1 };
    // Answers take so long that a probe is under way most of the time, and one failure is enough.
    await fail('udp');
    const seen = events('az.recovered', 'udp').length;
    await host('udp').start(600);
    await rig.ask('PUT', rig.url('/azs/az-udp'), { body: { ...config, probe: { ...slow, rise: 1 } } });
    await next('az.recovered', 'udp', seen);
    const before = count();
    for (const subnet of [16, 18, 20]) {
      const start = performance.now();
      await rig.ask('PUT', rig.url('/rules'), { body: rules(subnet) });
      console.log(`      100,000 rules in ${Math.round(performance.now() - start)} ms`);
      await sleep(1500);
    }
    await rig.ask('PUT', rig.url('/rules'), { body: [] });
    assert.equal(count(), before);
    // And the probes go on.
    await host('udp').kill();
    await next('az.failed', 'udp', events('az.failed', 'udp').length);
    await recover('udp');
    await rig.ask('PUT', rig.url('/azs/az-udp'), { body: host('udp').config });
  });

  it('are no longer watched when their probe is taken away', async () => {
    const { probe: _, ...config } = host('tcp').config;
    await rig.ask('PUT', rig.url('/azs/az-tcp'), { body: config });
    await host('tcp').kill();
    await sleep(INTERVAL_MS * (FALL + 5));
    assert.equal((await stateOf('tcp')).state, 'up');
    const seen = events('az.failed', 'tcp').length;
    await rig.ask('PUT', rig.url('/azs/az-tcp'), { body: host('tcp').config });
    await next('az.failed', 'tcp', seen);
    await recover('tcp');
  });
});
