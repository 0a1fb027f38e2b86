// SPDX-License-Identifier: Apache-2.0
/**
 * The REST API is what its document says: every operation gives every status that is documented for it, and each answer
 * has the media type, the headers and the body that stand there. What operations do is in daemon-api-use.test.ts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiDocument } from '../../src/daemon/http/openapi-shape.ts';
import { VnicControl } from '../../src/maps/generated/abi.ts';
import {
  ApiCaller,
  type GeneratedClient,
  generateClient,
  ok,
  type Parameters,
  refused,
} from '../support/api-client.ts';
import { CliRig } from '../support/cli.ts';
import { freePort, TestDaemon } from '../support/daemon.ts';
import { type DocumentedOperation, statusesOf } from '../support/openapi.ts';

const MAX_BODY_BYTES = 100_000;
const LIMITS = `  limits: {requests_per_second: 100000, body_bytes: ${MAX_BODY_BYTES}}`;

/** No such device is anywhere: what is sent to it changes nothing. */
const nowhere = { device: 'nowhere0', id: 7, az: 'az-a' };

const jsonType = 'application/json';

/** Bodies that say something the schema does not rule out, and that is not valid all the same. */
const invalidBodies: Readonly<Record<string, unknown>> = {
  attachDevice: { name: nowhere.device, azs: [{ name: 'az-a', queues: '9-1' }] },
  replaceRules: [{ id: 1, action: 'pass', match: { src: '10.0.0.0/99' } }],
  patchRules: { add: [{ id: 1, action: 'pass', match: { src: '10.0.0.0/99' } }] },
  applyQos: { flow_id: 7, rate: -1 },
  putRule: { action: 'pass', match: { src: '10.0.0.0/99' } },
  replaceAzs: [{ name: 'az-a', queues: '0-99' }],
  putAz: { queues: '0-99' },
  applyTuning: { numa_node: 1000 },
  replaceSpec: { azs: [{ name: 'az-a', queues: '0-99' }] },
};

/** Holds the lock of the machine: whoever needs a device waits. */
async function holdMachineLock(): Promise<ChildProcess> {
  mkdirSync('/run/vnic', { recursive: true });
  const holder = spawn('flock', ['/run/vnic/vnicctl.lock', 'sh', '-c', 'echo held; read -r _'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout!, 'data');
  return holder;
}

async function letGo(holder: ChildProcess): Promise<void> {
  const ended = once(holder, 'close');
  holder.stdin?.end('\n');
  await ended;
}

/** Writes another ABI version into what is pinned, as if another vnicctl had attached the device. */
function setAbiVersion({ pinFolder }: CliRig, change: number): void {
  const map = ['pinned', path.join(pinFolder, 'vnic_control'), 'key', '0', '0', '0', '0'];
  const found = execFileSync('bpftool', ['-j', 'map', 'lookup', ...map], { encoding: 'utf8' });
  const { value } = JSON.parse(found) as { value: string[] };
  const bytes = Buffer.from(value.map(Number));
  const { abiVersion } = VnicControl.offsets;
  bytes.writeUInt32LE(bytes.readUInt32LE(abiVersion) + change, abiVersion);
  execFileSync('bpftool', ['map', 'update', ...map, 'value', ...[...bytes].map(String)]);
}

describe('the API, held against its own document', function () {
  // Each operation waits for the machine's lock, which others may hold for a moment.
  this.timeout(240_000);
  let folder: string;
  let client: GeneratedClient;
  let rig: CliRig;
  let otherVersion: CliRig;
  let daemon: TestDaemon;
  let caller: ApiCaller;
  let device: string;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-api-'));
    client = await generateClient();
    rig = new CliRig('api');
    otherVersion = new CliRig('api-other');
    otherVersion.ok(['attach', 'vnic0'], { env: { VNIC_STATE_DIR: path.join(folder, 'state') } });
    setAbiVersion(otherVersion, 1);
    daemon = await TestDaemon.start({ folder, daemon: LIMITS });
    caller = await ApiCaller.connect(daemon);
    caller.configure(client);
    device = `vnic0@${rig.guest}`;
  });
  after(async () => {
    for (const { guest } of [rig, otherVersion]) {
      await daemon?.send('DELETE', `/api/v1/devices/vnic0@${guest}?force=true`).catch(() => undefined);
    }
    await daemon?.[Symbol.asyncDispose]();
    rig?.[Symbol.dispose]();
    otherVersion?.[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Operations that document a status, and where a body is taken, one that is valid. */
  function* having(status: number): Generator<{ operation: DocumentedOperation; body: string | undefined }> {
    for (const operation of caller.conformance.operations) {
      if (statusesOf(operation).includes(status)) yield { operation, body: bodyOf(operation) };
    }
  }

  /** The example of the document. The one for attaching names a device that the machine may have. */
  function bodyOf({ id, described }: DocumentedOperation): string | undefined {
    const { requestBody } = described;
    if (requestBody === undefined) return undefined;
    const { example } = requestBody.content[jsonType] ?? {};
    return JSON.stringify(id === 'attachDevice' ? { ...(example as object), name: nowhere.device } : example);
  }

  async function expectStatus(
    status: number,
    operation: DocumentedOperation,
    request: { body?: string | undefined; headers?: Record<string, string>; query?: string; parameters?: Parameters },
    target = caller,
  ): Promise<void> {
    const { body, query = '', parameters = nowhere, headers = {} } = request;
    const asked = { ...operation, path: `${operation.path}${query}` };
    const reply = await target.call(asked, parameters, { headers, ...(body === undefined ? {} : { body }) });
    assert.equal(reply.status, status, `${operation.id}: ${reply.text}`);
  }

  describe('a device that another version attached', () => {
    it('is refused to whoever would touch it or attach it (409), and goes only by force', async () => {
      const parameters = { ...nowhere, device: `vnic0@${otherVersion.guest}` };
      const attach = JSON.stringify({ name: 'vnic0', netns: otherVersion.guest });
      for (const { operation, body } of having(409)) {
        await expectStatus(409, operation, { body: operation.id === 'attachDevice' ? attach : body, parameters });
      }
      const answer = client.getDevice(parameters.device);
      const { expected, actual } = await refused(answer, 409, 'abi_mismatch');
      assert.equal(actual, (expected as number) + 1);
      const { items } = (await ok(client.listDevices())).data;
      assert.ok(items.some((item) => item.device === parameters.device));
      await ok(client.detachDevice(parameters.device, { force: 'true' }));
      assert.deepEqual(otherVersion.traces(), []);
    });
  });

  describe('gives what is asked for', () => {
    const rule = { priority: 1, match: { proto: 'udp', dstPort: 53 }, action: 'pass' as const };

    it('of the daemon itself', async () => {
      assert.deepEqual((await ok(client.getHealth())).data, { status: 'ok' });
      assert.deepEqual((await ok(client.getReadiness())).data, { status: 'ready' });
      assert.match((await ok(client.getMetricsText())).data, /^virtio_nic_build_info/m);
      const accept = 'application/openmetrics-text';
      assert.match((await ok(client.getMetricsText({ headers: { accept } }))).data, /^# EOF$/m);
      assert.ok((await ok(client.getMetrics())).data.metrics.length > 10);
      assert.match((await ok(client.getReference())).data, /^<!doctype html>/i);
      assert.match((await ok(client.getPage())).data, /^<!doctype html>/i);
      assert.deepEqual((await ok(client.getOpenApi())).data, caller.conformance.document);
      // Nobody is there: it is a node of a fleet all the same.
      await using node = await TestDaemon.start({
        fleet: `{node: gw-1, endpoints: ["http://127.0.0.1:${await freePort()}"]}`,
      });
      const ofNode = new ApiCaller(caller.conformance, node);
      const { text: fleet } = await ofNode.call(caller.conformance.operation('getFleet'), {});
      assert.match(fleet, /gw-1/);
      const { status, headers } = await caller.send('GET', '/api/v1/events');
      assert.deepEqual([status, headers.get('content-type')], [200, 'text/event-stream']);
    });

    it('of devices', async () => {
      const attach = {
        name: 'vnic0',
        netns: rig.guest,
        azs: [{ name: 'az-a', queues: '0-15' }],
        rules: [{ id: 7, ...rule }],
      };
      assert.equal((await ok(client.attachDevice(attach, { dryRun: 'true' }))).status, 200);
      assert.equal((await ok(client.attachDevice(attach, { queues: 16 }))).status, 201);
      assert.equal((await ok(client.getDevice(device))).data.queues, 16);
      const { items } = (await ok(client.listDevices())).data;
      assert.equal(items.find((item) => item.device === device)?.state, 'attached');
      const spec = (await ok(client.getSpec(device))).data;
      assert.deepEqual(
        spec.rules?.map(({ id }) => id),
        [7],
      );
      const { data } = await ok(client.replaceSpec(device, spec));
      assert.deepEqual(data, { device, performed: true, azs: 1, rules: 1 });
      assert.equal((await ok(client.diagnoseDevice(device, { mode: 'generic', queues: 8 }))).data.mode, 'generic');
      assert.deepEqual((await ok(client.mendDevice(device, { dryRun: 'true' }))).data.actions, []);
      assert.equal((await ok(client.detachDevice(device, { dryRun: 'true' }))).data.detached, false);
    });

    it('of rules', async () => {
      assert.deepEqual(
        (await ok(client.listRules(device, { limit: 10 }))).data.items.map(({ id }) => id),
        [7],
      );
      assert.equal((await ok(client.getRule(device, 7))).data.counters.packets, 0);
      assert.equal((await ok(client.putRule(device, 8, { id: 8, ...rule, priority: 2 }))).status, 201);
      assert.equal((await ok(client.putRule(device, 8, { id: 8, ...rule, priority: 3 }))).status, 200);
      await ok(client.patchRules(device, { set: [{ id: 9, ...rule, priority: 4 }] }));
      await ok(client.applyQos(device, { flow_id: 9, rate: 1000 }));
      await ok(client.deleteRule(device, 9));
      await ok(client.replaceRules(device, [{ id: 7, ...rule }]));
      for (const accept of ['application/yaml', 'application/x-ndjson']) {
        const reply = await caller.call(caller.conformance.operation('listRules'), { device }, { headers: { accept } });
        assert.equal(reply.headers.get('content-type'), accept);
        assert.match(reply.text, /dstPort/);
      }
    });

    it('of AZs', async () => {
      await ok(client.replaceAzs(device, [{ name: 'az-a', queues: '0-7' }]));
      await ok(client.putAz(device, 'az-b', { name: 'az-b', queues: [8, 9, 10] }));
      assert.equal((await ok(client.listAzs(device))).data.items.length, 2);
      assert.deepEqual((await ok(client.getAz(device, 'az-b'))).data.queues, [8, 9, 10]);
      await ok(client.planFailure(device, { az: 'az-b' }));
      await ok(client.failAz(device, 'az-b'));
      await ok(client.getAz(device, 'az-b'));
      await ok(client.recoverAz(device, 'az-b'));
      assert.equal((await ok(client.rebalanceDevice(device, { threshold: 1.5 }, { dryRun: 'true' }))).data.moved, 0);
      assert.equal((await ok(client.rebalanceDevice(device))).data.performed, false);
      const heard = { queues: '0-7', prefixes: ['10.9.0.0/16'], silence_ms: 50, silence_floor_pps: 1000 };
      await ok(client.putAz(device, 'az-a', heard));
      assert.equal((await ok(client.getAz(device, 'az-a'))).data.health?.silence?.armed, false);
      await ok(client.deleteAz(device, 'az-b'));
    });

    it('of the dataplane', async () => {
      rig.send({ fromPort: 4000, toPort: 53, packets: 10, bytes: 100 });
      // More when the kernel sent a packet to a queue beyond those that are dealt with.
      const queues = (await ok(client.listQueues(device))).data.items.map(({ queue }) => queue);
      assert.deepEqual(queues.slice(0, 16), [...Array(16).keys()]);
      const flows = (await ok(client.listFlows(device, { top: 5, by: 'packets' }))).data.items;
      assert.equal(flows.find(({ srcPort }) => srcPort === 4000)?.packets, 10);
      assert.equal((await ok(client.getTable(device))).data.rows.length, 2);
      const perf = (await ok(client.getPerf(device))).data;
      assert.equal(perf.events.find(({ event }) => event === 'context_switches')?.unavailable, null);
      const packet = { src: '10.9.0.2', dst: '10.9.0.1', srcPort: 4000, dstPort: 53, proto: 'udp' };
      assert.equal((await ok(client.explainPacket(device, packet))).data.rule, 7);
      assert.equal((await ok(client.getLatency(device))).data.rtt.azs.length, 2);
      const { session } = (await ok(client.startCapture(device, { rule: 7, snaplen: 64 }))).data;
      rig.send({ fromPort: 4001, toPort: 53, packets: 3, bytes: 100 });
      const { packets } = (await ok(client.readCapture(device, { session }))).data;
      assert.deepEqual(
        packets.map(({ outcome, rule: id, data }) => [outcome, id, Buffer.from(data, 'base64').length]),
        Array(3).fill(['pass', 7, 64]),
      );
      assert.equal((await ok(client.stopCapture(device, { session }))).data.stopped, true);
      const ended = await daemon.waitForEvent('capture.ended');
      assert.deepEqual(
        [ended['device'], ended['reason'], ended['captured'], ended['matched']],
        [device, 'stopped', 3, 3],
      );
      assert.equal(daemon.events('capture.started').length, 1);
      await ok(client.getMetrics());
      await ok(client.getDevice(device));
    });
    it('of the host side', async () => {
      assert.equal((await ok(client.applyTuning(device, {}, { dryRun: 'true' }))).data.performed, false);
      const { held } = (await ok(client.applyTuning(device, {}))).data;
      assert.deepEqual((await ok(client.getTuning(device))).data.held, held);
      assert.deepEqual((await ok(client.restoreTuning(device))).data.failed, []);
    });
  });

  describe('refuses', () => {
    it('queries that it does not know (400)', async () => {
      for (const { operation, body } of having(400)) await expectStatus(400, operation, { body, query: '?nonsense=1' });
    });
    it('bodies that are cut off (400, of lines 422)', async () => {
      for (const { operation } of having(415)) {
        await expectStatus(operation.id === 'applyQos' ? 422 : 400, operation, { body: '{"name":' });
      }
    });
    it('tokens that it does not know (401)', async () => {
      const headers = { authorization: 'Bearer vnic_nobody' };
      for (const { operation, body } of having(401)) await expectStatus(401, operation, { body, headers });
    });
    it('to write with a token for reading, and to read under another name (403)', async () => {
      const readOnly = { authorization: `Bearer ${daemon.readToken.token}` };
      for (const { operation, body } of having(403)) {
        const reads = operation.described.security === undefined;
        const headers = { ...readOnly, ...(reads ? { host: 'vnic.example' } : {}) };
        await expectStatus(403, operation, { body, headers });
      }
    });
    it('what is not there (404)', async () => {
      for (const { operation, body } of having(404)) await expectStatus(404, operation, { body });
      for (const id of ['getAz', 'deleteAz', 'failAz', 'recoverAz', 'planFailure', 'getRule', 'deleteRule']) {
        const operation = caller.conformance.operation(id);
        const body = operation.described.requestBody === undefined ? undefined : JSON.stringify({ az: 'nowhere' });
        const parameters = { device, az: 'nowhere', id: 12345 };
        await expectStatus(404, operation, { body: id === 'failAz' ? undefined : body, parameters });
      }
    });
    it('media types that nothing is to be had as (406)', async () => {
      const headers = { accept: 'text/x-nothing' };
      for (const { operation, body } of having(406)) await expectStatus(406, operation, { body, headers });
    });
    it('to change what is another thing by now (412)', async () => {
      const headers = { 'if-match': '"long-ago"' };
      for (const { operation, body } of having(412)) {
        await expectStatus(412, operation, { body, headers, parameters: { device, id: 7 } });
      }
    });
    it('bodies that are too large (413)', async () => {
      const body = ' '.repeat(MAX_BODY_BYTES + 1);
      for (const { operation } of having(413)) await expectStatus(413, operation, { body });
    });
    it('bodies of a type that is not read (415)', async () => {
      const headers = { 'content-type': 'text/x-nothing' };
      for (const { operation } of having(415)) await expectStatus(415, operation, { body: '{}', headers });
    });
    it('bodies that say what cannot be (422)', async () => {
      for (const { operation } of having(422)) {
        const body = JSON.stringify(invalidBodies[operation.id]);
        assert.ok(body, `there is no invalid body for ${operation.id}`);
        // Tuning takes a configuration only for what is not attached.
        const target = operation.id === 'applyTuning' ? `peer0@${rig.peer}` : device;
        await expectStatus(422, operation, { body, parameters: { ...nowhere, device: target } });
      }
    });
  });

  describe('as a whole', () => {
    it('is held against it by a check that sees every difference', () => {
      const { conformance } = caller;
      const headers = new Headers({ 'content-type': jsonType, etag: '"1"' });
      const exchange = {
        method: 'GET',
        url: '/api/v1/devices/x/rules',
        status: 200,
        headers,
        text: '{"items":[],"next":null}',
      };
      conformance.check(exchange);
      const wrong: Partial<typeof exchange>[] = [
        { status: 204 },
        { url: '/api/v1/devices/x/rulez' },
        { method: 'POST' },
        { headers: new Headers({ 'content-type': jsonType }) },
        { headers: new Headers({ 'content-type': 'text/html', etag: '"1"' }) },
        { text: '{"items":[]}' },
        { text: '{"items":[],"next":null,"more":1}' },
        { text: '{"items":[{"id":0,"action":"pass"}],"next":null}' },
      ];
      for (const difference of wrong) {
        assert.throws(() => conformance.check({ ...exchange, ...difference }), assert.AssertionError);
      }
    });

    it('shows examples that are what it takes', () => {
      for (const { id, described } of caller.conformance.operations) {
        for (const [type, { example }] of Object.entries(described.requestBody?.content ?? {})) {
          if (example !== undefined) caller.conformance.checkRequest(id, type, example);
        }
      }
    });

    it('answers 503 until it is ready, 429 above its rate, and 503 to whoever is late when it stops', async () => {
      const holder = await holdMachineLock();
      try {
        await using second = await TestDaemon.start({ daemon: LIMITS, impatient: true });
        const other = new ApiCaller(caller.conformance, second);
        await untilListening(second);
        for (const { operation, body } of having(503)) {
          // It needs no device: it can be followed from the first moment on.
          const isStream = operation.id === 'followEvents';
          await expectStatus(isStream ? 200 : 503, operation, { body }, other);
        }
        await letGo(holder);
        await second.ready();
        assert.deepEqual(await second.ask('GET', '/api/v1/openapi.json'), caller.conformance.document);

        second.configure({ daemon: '  limits: {requests_per_second: 1}' });
        second.signal('SIGHUP');
        await second.waitForEvent('config.reloaded');
        for (const { operation, body } of having(429)) await untilTooMany(other, operation, body);

        await expectLateRefusal(second);
      } finally {
        if (holder.exitCode === null) await letGo(holder);
      }
    });

    async function untilListening(waiting: TestDaemon): Promise<void> {
      for (let tries = 0; tries < 1000; tries++) {
        const reply = await waiting.send('GET', '/healthz').catch(() => null);
        if (reply !== null) return;
        await sleep(20);
      }
      assert.fail(`the daemon does not listen: ${waiting.stderr}`);
    }

    /** The first request of each second is served. */
    async function untilTooMany(other: ApiCaller, operation: DocumentedOperation, body?: string): Promise<void> {
      for (let tries = 0; tries < 10; tries++) {
        const { status } = await other.call(operation, nowhere, body === undefined ? {} : { body });
        if (status === 429) return;
      }
      assert.fail(`${operation.id} is never too much`);
    }

    /** A request whose first half came before the daemon began to stop, the second after. */
    async function expectLateRefusal(stopping: TestDaemon): Promise<void> {
      const { port } = new URL(stopping.baseUrl);
      const socket = connect(Number(port), '127.0.0.1');
      await once(socket, 'connect');
      // The rate of the address starts anew with each second.
      await sleep(1100);
      socket.write('GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n');
      await sleep(100);
      stopping.signal('SIGTERM');
      await stopping.waitForEvent('stopping; what is attached goes on');
      socket.write(`Authorization: Bearer ${stopping.readToken.token}\r\nConnection: close\r\n\r\n`);
      const answer = await text(socket);
      const [head = '', body = ''] = answer.split('\r\n\r\n');
      const [statusLine = '', ...fields] = head.split('\r\n');
      caller.conformance.check({
        method: 'GET',
        url: '/api/v1/events',
        status: Number(statusLine.split(' ')[1]),
        headers: new Headers(fields.map((field) => field.split(': ') as [string, string])),
        text: body,
      });
      assert.match(statusLine, / 503 /);
      await stopping.exited();
    }

    it('gives nothing that is not documented, and everything that is', async () => {
      await ok(client.detachDevice(device));
      const { conformance } = caller;
      const all = conformance.operations.flatMap(statusesOf).length;
      console.log(`      ${conformance.count} answers to ${conformance.operations.length} operations, ${all} statuses`);
      assert.deepEqual(conformance.missing(), []);
      const served = (await daemon.ask('GET', '/api/v1/openapi.json')) as unknown as ApiDocument;
      assert.deepEqual(served, conformance.document);
    });

    it('writes nothing beside its log, whatever the form of a request line', async () => {
      for (const target of ['http://vnic.example/healthz', '/healthz#part']) await daemon.send('GET', target);
      assert.equal(daemon.stderr, '');
    });
  });
});
