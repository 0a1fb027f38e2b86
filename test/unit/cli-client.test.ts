// SPDX-License-Identifier: Apache-2.0
/** vnicctl as a client of the daemon's API, against a server that is none. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { loadOperation } from '../../src/api/local.ts';
import { operations } from '../../src/api/operations/index.ts';
import { routes } from '../../src/api/routes.ts';
import { EventStreamParser, type StreamPart } from '../../src/cli/event-stream.ts';
import { eventLine } from '../../src/cli/events.ts';
import { VnicError } from '../../src/errors.ts';
import { vnicctl } from '../support/cli.ts';

type OperationId = keyof typeof routes;

describe("the client's table of routes", () => {
  it('has the method and the path of every operation, and knows where each is', async () => {
    assert.deepEqual(
      Object.fromEntries(Object.entries(routes).map(([id, [method, route]]) => [id, [method, route]])),
      Object.fromEntries(operations.map(({ id, method, path: route }) => [id, [method, route]])),
    );
    for (const operation of operations) assert.equal(await loadOperation(operation.id as OperationId), operation);
  });
});

describe('a stream of events', () => {
  const stream = [
    'retry: 1500\n\n',
    ': nothing\n\n',
    'id: a.1\nevent: az.failed\ndata: {"az":"ä"}\n\n',
    'data:one\r\ndata: two\r\n\r\n',
    'event: reset\n\nid: a.2\n\n',
    'id: a.3\nevent: x\ndata: 3\n\ndata: cut off',
  ].join('');
  const expected: StreamPart[] = [
    { kind: 'retry', ms: 1500 },
    { kind: 'comment' },
    { kind: 'event', id: 'a.1', type: 'az.failed', data: '{"az":"ä"}' },
    { kind: 'event', id: 'a.1', type: 'message', data: 'one\ntwo' },
    { kind: 'event', id: 'a.3', type: 'x', data: '3' },
  ];

  it('is read the same however it is cut', () => {
    const bytes = Buffer.from(stream);
    for (let size = 1; size <= bytes.length; size++) {
      const parser = new EventStreamParser();
      const parts: StreamPart[] = [];
      for (let at = 0; at < bytes.length; at += size) parts.push(...parser.push(bytes.subarray(at, at + size)));
      assert.deepEqual(parts, expected, `pieces of ${size} bytes`);
    }
  });

  it('is printed as lines: when, what, where, with what', () => {
    const time = '2026-03-01T12:00:00.000Z';
    assert.equal(
      eventLine({ id: 'a.1', time, type: 'az.failed', device: 'eth0', data: { az: 'az-b', moved: 12 } }),
      `${time}  az.failed  eth0  az=az-b moved=12`,
    );
    assert.equal(
      eventLine({ id: 'a.2', time, type: 'config.reloaded', device: null, data: {} }),
      `${time}  config.reloaded  -`,
    );
  });
});

describe('vnicctl with a daemon', function () {
  this.timeout(60_000);
  let folder: string;
  let socket: string;
  let server: Server | undefined;
  let requests: { method: string; url: string; headers: IncomingMessage['headers']; body: string }[];

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-client-'));
    socket = path.join(folder, 'vnicd.sock');
    requests = [];
  });
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
    server = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<void> {
    server = createServer((request, response) => {
      void readAll(request).then((body) => {
        const { method = '', url = '', headers } = request;
        requests.push({ method, url, headers, body });
        answer(request, response);
      });
    });
    await new Promise<void>((resolve) => server?.listen(socket, resolve));
  }

  function json(response: ServerResponse, data: unknown, { status = 200, etag = '' } = {}): void {
    response.writeHead(status, { 'content-type': 'application/json', ...(etag === '' ? {} : { etag }) });
    response.end(JSON.stringify(data));
  }

  function start(args: readonly string[], env: Record<string, string> = { VNIC_SOCKET: socket }) {
    return spawn(vnicctl, args, { env: { ...process.env, NO_COLOR: '1', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async function run(args: readonly string[], env?: Record<string, string>) {
    const child = start(args, env);
    const [stdout, stderr, code] = await Promise.all([
      readAll(child.stdout),
      readAll(child.stderr),
      new Promise<number | null>((resolve) => child.once('close', resolve)),
    ]);
    return { stdout, stderr, code };
  }

  const devices = (...names: string[]) => ({
    items: names.map((name) => ({ device: name, name, netns: null, state: 'attached', problem: null })),
    next: null,
  });
  const changes = { device: 'eth0', added: [], changed: [7], removed: [], unchanged: 0, warnings: [], performed: true };

  it('asks it for the only device, and prints the items of its list', async () => {
    const azs = [{ name: 'az-a', queues: [0, 1], weight: 1, prefixes: [], state: 'up', cause: null, since: null }];
    await serve(({ url }, response) =>
      json(response, url === '/api/v1/devices' ? devices('eth0') : { items: azs, next: null }),
    );
    const { stdout, code } = await run(['-o', 'json', 'az', 'list']);
    assert.deepEqual([code, JSON.parse(stdout)], [0, azs]);
    assert.deepEqual(
      requests.map(({ method, url }) => `${method} ${url}`),
      ['GET /api/v1/devices', 'GET /api/v1/devices/eth0/azs'],
    );
  });

  it('names a device in a namespace, and sends queries and bodies', async () => {
    await serve((_, response) => json(response, changes));
    const file = path.join(folder, 'rules.yaml');
    writeFileSync(file, '- {id: 7, action: drop}\n');
    const { code } = await run(['--netns', 'blue', '--dry-run', 'rule', 'import', file, 'eth0']);
    assert.equal(code, 0);
    assert.deepEqual(
      requests.map(({ method, url, body }) => [method, url, JSON.parse(body)]),
      [['PUT', '/api/v1/devices/eth0%40blue/rules?dryRun=true', [{ id: 7, action: 'drop' }]]],
    );
  });

  it('gives the error of the daemon: its two lines, its exit code, with -o json its problem', async () => {
    const error = new VnicError('policy_refused', 'Too few queues would be left.', {
      remedy: 'Force it.',
      details: { usable: 3 },
    });
    await serve((_, response) => json(response, error.toProblem(), { status: 409 }));
    const plain = await run(['az', 'fail', 'az-a', 'eth0']);
    assert.deepEqual([plain.code, plain.stdout], [3, '']);
    assert.equal(plain.stderr, 'vnicctl: Too few queues would be left.\n  Force it.\n');
    const asJson = await run(['-o', 'json', 'az', 'fail', 'az-a', 'eth0']);
    assert.deepEqual(JSON.parse(asJson.stderr), error.toProblem());
  });

  it('writes a limit to the rule that it has read, and reads it again when somebody was faster', async () => {
    const stale = new VnicError('precondition_failed', 'Rule 7 is another one now.').toProblem();
    let version = 1;
    await serve(({ method }, response) => {
      if (method === 'GET') {
        const rule = { id: 7, priority: version, action: 'pass', match: {}, counters: { packets: 0 } };
        json(response, rule, { etag: `"v${version}"` });
      } else if (version === 1) {
        version = 2;
        json(response, stale, { status: 412 });
      } else json(response, changes);
    });
    assert.equal((await run(['limit', 'set', '7', 'eth0', '--rate', '1mbit'])).code, 0);
    assert.deepEqual(
      requests.map(({ method, headers, body }) => [
        method,
        headers['if-match'] ?? null,
        body === '' ? null : (JSON.parse(body) as unknown),
      ]),
      [
        ['GET', null, null],
        ['PUT', '"v1"', { id: 7, priority: 1, action: 'pass', match: {}, limit: { rate: '1mbit' } }],
        ['GET', null, null],
        ['PUT', '"v2"', { id: 7, priority: 2, action: 'pass', match: {}, limit: { rate: '1mbit' } }],
      ],
    );
  });

  it('gives up on a rule that others change all the time', async () => {
    const stale = new VnicError('precondition_failed', 'Rule 7 is another one now.').toProblem();
    await serve(({ method }, response) => {
      if (method === 'GET') json(response, { id: 7, action: 'pass', counters: {} }, { etag: '"v"' });
      else json(response, stale, { status: 412 });
    });
    const { code, stderr } = await run(['limit', 'set', '7', 'eth0', '--rate', '1mbit']);
    assert.equal(code, 6);
    assert.match(stderr, /Rule 7 is another one now/);
  });

  it('makes a rule only if nobody else did meanwhile', async () => {
    const missing = new VnicError('not_found', 'There is no rule 9.', { details: { rule: 9 } }).toProblem();
    await serve(({ method }, response) => {
      if (method === 'GET') json(response, missing, { status: 404 });
      else json(response, changes, { status: 201 });
    });
    assert.equal((await run('limit set 9 eth0 --proto tcp --rate 1mbit'.split(' '))).code, 0);
    const [, put] = requests;
    assert.equal(put?.headers['if-none-match'], '*');
    assert.deepEqual(JSON.parse(put?.body ?? ''), {
      id: 9,
      match: { proto: 'tcp' },
      action: 'pass',
      limit: { rate: '1mbit' },
    });
  });

  it('prints what apply found and did', async () => {
    const drift = [{ what: 'rules', spec: '3', kernel: '2' }];
    const result = { device: 'eth0', performed: true, drift, actions: ['load the 3 rules that are recorded'] };
    await serve((_, response) => json(response, result));
    const { stdout } = await run(['apply', 'eth0']);
    assert.equal(
      stdout,
      'eth0: 1 difference, mended\n  drift: rules: asked for 3, the kernel has 2\n  done: load the 3 rules that are recorded\n',
    );
    assert.deepEqual(JSON.parse((await run(['-o', 'json', 'apply', 'eth0'])).stdout), result);
  });

  const event = (number: number) => ({
    id: `a.${number}`,
    time: '2026-03-01T12:00:00.000Z',
    type: 'rules.changed',
    device: 'eth0',
    data: { added: number },
  });
  const frame = (number: number): string =>
    `id: a.${number}\nevent: rules.changed\ndata: ${JSON.stringify(event(number))}\n\n`;
  const eventStream = (response: ServerResponse, text: string): void => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(text);
  };

  it('prints the latest events and ends, though the stream stays open', async () => {
    await serve((_, response) => eventStream(response, `retry: 2000\n\n${frame(1)}${frame(2)}`));
    const { stdout, code } = await run(['-o', 'json', 'events', '--latest', '5']);
    assert.equal(code, 0);
    assert.deepEqual(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
      [event(1), event(2)],
    );
    assert.deepEqual([requests[0]?.url, requests[0]?.headers.accept], ['/api/v1/events?latest=5', 'text/event-stream']);
  });

  it('follows the events over a break, and goes on after the last one that it saw', async () => {
    await serve(({ headers }, response) => {
      if (headers['last-event-id'] === undefined) {
        eventStream(response, `retry: 10\n\n${frame(1)}`);
        response.end();
      } else eventStream(response, `event: reset\ndata: {}\n\n${frame(4)}`);
    });
    const child = start(['events', '--follow']);
    let notes = '';
    child.stderr.on('data', (data: Buffer) => {
      notes += data.toString();
    });
    let printed = '';
    for await (const data of child.stdout as AsyncIterable<Buffer>) {
      printed += data.toString();
      if (printed.includes('added=4')) break;
    }
    child.kill();
    await new Promise((resolve) => child.once('close', resolve));
    assert.deepEqual(
      printed.trimEnd().split('\n'),
      [1, 4].map((number) => `2026-03-01T12:00:00.000Z  rules.changed  eth0  added=${number}`),
    );
    assert.match(notes, /Some events are lost/);
    assert.deepEqual(
      requests.slice(0, 2).map(({ headers }) => headers['last-event-id'] ?? null),
      [null, 'a.1'],
    );
  });

  it('says so where there is none: exit 1 for events and for a socket that was named', async () => {
    const named = await run(['--socket', socket, 'status'], {});
    assert.equal(named.code, 1);
    assert.match(named.stderr, /^vnicctl: No daemon answers at \S+ \(ENOENT\)\.\n {2}Start it with: vnicctl serve; or/);
    const events = await run(['-o', 'json', 'events']);
    assert.equal(events.code, 1);
    assert.equal((JSON.parse(events.stderr) as { code: string }).code, 'daemon_unreachable');
  });

  it('does not load what only the daemon needs', async () => {
    await serve((_, response) => json(response, devices()));
    const { stderr, code } = await run(['status'], { VNIC_SOCKET: socket, NODE_DEBUG: 'esm' });
    assert.equal(code, 0);
    const loaded = new Set([...stderr.matchAll(/file:\/\/(\/[^\s'",]+\.[jt]s)/g)].map(([, file]) => file!));
    assert.ok(loaded.size > 3, `modules are named: ${[...loaded].join(' ')}`);
    for (const file of loaded) {
      const text = readFileSync(file, 'utf8');
      for (const [what, mark] of Object.entries({ 'native code': 'libbpf.so.1', schemas: '$ZodType' })) {
        assert.ok(!text.includes(mark), `${file} loads ${what}`);
      }
    }
  });
});
