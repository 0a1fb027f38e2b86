// SPDX-License-Identifier: Apache-2.0
/** Probes against servers of this process, over loopback. */
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { readdirSync } from 'node:fs';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAz } from '../../src/config/azs.ts';
import { echoRequest, internetChecksum, isEchoReply } from '../../src/health/probers/icmp.ts';
import { createProber } from '../../src/health/probers/index.ts';
import { type Attempt, type ProbeResult, runProbe, type Settle } from '../../src/health/run-probe.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';

const signal = new AbortController().signal;
const now = (): number => performance.now();
const answer: ProbeResult = { kind: 'answer' };

function block(ms: number): void {
  const end = now() + ms;
  while (now() < end);
}

describe('a probe with a deadline', () => {
  const run = (start: (settle: Settle) => Attempt, timeoutMs: number) => runProbe(start, { timeoutMs, now, signal });
  let closed = 0;
  const open: Attempt = {
    close: () => {
      closed++;
    },
  };
  beforeEach(() => {
    closed = 0;
  });

  it('ends with its first result, and is closed once', async () => {
    const result = await run((settle) => {
      setImmediate(() => {
        settle.answered();
        settle.failed('too late');
      });
      return open;
    }, 5000);
    assert.deepEqual([result, closed], [answer, 1]);
  });

  it('may end before it has begun to wait', async () => {
    const result = await run((settle) => {
      settle.failed('connection refused');
      return open;
    }, 5000);
    assert.deepEqual([result, closed], [{ kind: 'failure', error: 'connection refused' }, 1]);
  });

  it('fails when nothing comes, and a late answer changes nothing', async () => {
    let late: Settle | undefined;
    const result = await run((settle) => {
      late = settle;
      return open;
    }, 30);
    late?.answered();
    // A machine that is too busy for the timer gives no result at all.
    if (result.kind !== 'unknown') assert.deepEqual(result, { kind: 'failure', error: 'no answer in 30 ms' });
    assert.equal(closed, 1);
  });

  it('says nothing of the target when the event loop was busy for long', async () => {
    const result = await run(() => {
      setImmediate(() => block(120));
      return open;
    }, 50);
    assert.deepEqual(result, { kind: 'unknown', error: null });
  });

  it('takes an answer that waited while the event loop was busy for a moment', async () => {
    // On a clock of its own: 110 ms of 100 are over when the timer is looked at.
    let clock = 0;
    let looks = 0;
    const result = await runProbe(
      (settle) => {
        setImmediate(() => {
          clock = 110;
        });
        return {
          close: () => undefined,
          look: () => {
            looks++;
            settle.answered();
          },
        };
      },
      { timeoutMs: 100, now: () => clock, signal },
    );
    assert.deepEqual([result, looks], [answer, 1]);
  });

  it('never rejects, and can be ended from outside', async () => {
    const thrown = await run(() => {
      throw new Error('no more files');
    }, 50);
    assert.deepEqual(thrown, { kind: 'unknown', error: 'no more files' });
    const controller = new AbortController();
    const ended = runProbe(() => open, { timeoutMs: 60_000, now, signal: controller.signal });
    controller.abort();
    assert.deepEqual([await ended, closed], [{ kind: 'unknown', error: null }, 1]);
  });
});

describe('an ICMP echo request', () => {
  it('has a checksum that adds up, and knows its reply by the payload', () => {
    const payload = Buffer.from('0123456789abcdef');
    for (const family of [4, 6] as const) {
      const request = echoRequest(family, 0xbeef, payload);
      assert.equal(internetChecksum(request), 0);
      assert.equal(isEchoReply(family, request, payload), false);
      const reply = Buffer.from(request);
      reply[0] = family === 4 ? 0 : 129;
      assert.equal(isEchoReply(family, reply, payload), true);
      assert.equal(isEchoReply(family, reply, Buffer.from('0123456789abcdeX')), false);
      assert.equal(isEchoReply(family, reply.subarray(0, 8), payload), false);
    }
  });
});

describe('probes over loopback', function () {
  this.timeout(60_000);
  const prober = createProber(loadNative());
  const servers: { close(): unknown }[] = [];
  let http: HttpServer;
  after(() => {
    http?.closeAllConnections();
    for (const server of servers) server.close();
  });

  async function listening(server: net.Server, host: string): Promise<number> {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return (server.address() as net.AddressInfo).port;
  }

  const probe = (input: Record<string, unknown>): Promise<ProbeResult> => {
    const { probe: asked } = parseAz({
      name: 'a',
      queues: 0,
      probe: { interval_ms: 10_000, timeout_ms: 5000, ...input },
    });
    return prober({ netns: null, probe: asked!, target: asked!.targets[0]!, signal });
  };

  it('by TCP need a connection', async () => {
    for (const host of ['127.0.0.1', '::1']) {
      const server = net.createServer((socket) => socket.on('error', () => undefined));
      const port = await listening(server, host);
      const target = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
      assert.deepEqual(await probe({ type: 'tcp', target }), answer);
      await new Promise((resolve) => server.close(resolve));
      assert.deepEqual(await probe({ type: 'tcp', target }), { kind: 'failure', error: 'connection refused' });
    }
  });

  it('by HTTP need the status asked for, and follow no redirect', async () => {
    const seen: string[] = [];
    http = createHttpServer((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers.host}`);
      if (request.url === '/never') return;
      if (request.url === '/huge') {
        response.writeHead(200).write('x'.repeat(1_000_000));
        return;
      }
      response.writeHead(Number(request.url?.slice(1)), { location: '/200' }).end('body');
    });
    const port = await listening(http, '127.0.0.1');
    const ask = (path: string, more = {}) => probe({ type: 'http', target: `127.0.0.1:${port}`, path, ...more });
    assert.deepEqual(await ask('/200'), answer);
    assert.deepEqual(await ask('/302'), answer);
    assert.deepEqual(await ask('/302', { status: 200 }), { kind: 'failure', error: 'status 302' });
    assert.deepEqual(await ask('/503'), { kind: 'failure', error: 'status 503' });
    assert.deepEqual(await ask('/huge'), answer);
    assert.deepEqual(await ask('/never', { timeout_ms: 100 }), { kind: 'failure', error: 'no answer in 100 ms' });
    assert.deepEqual(seen[0], `GET /200 127.0.0.1:${port}`);
    assert.equal(seen.filter((line) => line.includes('/200')).length, 1);
    const garbage = await listening(
      net.createServer((socket) => {
        socket.on('error', () => undefined);
        socket.end('garbage\r\n\r\n');
      }),
      '127.0.0.1',
    );
    assert.equal((await probe({ type: 'http', target: `127.0.0.1:${garbage}` })).kind, 'failure');
  });

  it('by UDP need the same datagram back', async () => {
    const echo = dgram.createSocket('udp4');
    servers.push(echo);
    let change = (message: Buffer): Buffer => message;
    echo.on('message', (message, { port, address }) => echo.send(change(message), port, address));
    await new Promise<void>((resolve) => echo.bind(0, '127.0.0.1', resolve));
    const target = `127.0.0.1:${echo.address().port}`;
    assert.deepEqual(await probe({ type: 'udp', target }), answer);
    change = () => Buffer.from('something else, 16');
    assert.deepEqual(await probe({ type: 'udp', target, timeout_ms: 100 }), {
      kind: 'failure',
      error: 'no answer in 100 ms',
    });
    servers.splice(servers.indexOf(echo), 1);
    echo.close();
    assert.deepEqual(await probe({ type: 'udp', target }), { kind: 'failure', error: 'connection refused' });
  });

  it('by ICMP need an echo reply', async () => {
    for (const target of ['127.0.0.1', '::1']) assert.deepEqual(await probe({ type: 'icmp', target }), answer);
  });

  it('are not taken for failures while this process is busy', async () => {
    const port = await listening(
      net.createServer((socket) => socket.on('error', () => undefined)),
      '127.0.0.1',
    );
    const target = `127.0.0.1:${port}`;
    for (const type of ['tcp', 'http', 'icmp']) {
      const pending = probe({ type, target: type === 'icmp' ? '127.0.0.1' : target, timeout_ms: 100 });
      await sleep(0);
      block(300);
      assert.notEqual((await pending).kind, 'failure', type);
    }
  });

  it('leave no file descriptor behind', async () => {
    const count = (): number => readdirSync('/proc/self/fd').length;
    const before = count();
    for (let n = 0; n < 20; n++) {
      await Promise.all([
        probe({ type: 'tcp', target: '127.0.0.1:1' }),
        probe({ type: 'udp', target: '127.0.0.1:1' }),
        probe({ type: 'http', target: '127.0.0.1:1' }),
        probe({ type: 'icmp', target: '127.0.0.1' }),
      ]);
    }
    await sleep(50);
    assert.ok(count() <= before + 2, `${before} descriptors became ${count()}`);
  });
});
