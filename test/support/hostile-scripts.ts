// SPDX-License-Identifier: Apache-2.0
/** Connections on which HTTP itself is wrong, or the client misbehaves: each is made from a seed and its index alone. */
import type { Script } from './hostile-client.ts';
import { type Random, randomFor } from './hostile-values.ts';

export interface HostileScript extends Script {
  name: string;
  over: 'unix' | 'tcp';
  /** Answers that have to come: none where it is no HTTP, or the client does not wait. */
  answers: number;
  /** The server ends the connection at an end of time that it sets. */
  isSlow: boolean;
}

type Draft = Pick<HostileScript, 'steps' | 'end' | 'answers'> & { isSlow?: boolean };

function text(value: string): Buffer {
  return Buffer.from(value, 'latin1');
}

/** Sent in one go and answered with an error, after which the server closes. */
function refused(...values: (string | Buffer)[]): Draft {
  return {
    steps: [Buffer.concat(values.map((value) => Buffer.from(value as string, 'latin1')))],
    end: 'wait',
    answers: 1,
  };
}

function notHttp(bytes: Buffer): Draft {
  return { steps: [bytes], end: 'finish', answers: 0 };
}

const HOST = 'Host: 127.0.0.1\r\n';

/** @param write head of a writing request up to its fields, with a token */
function makers(random: Random, write: string, token: string): Record<string, () => Draft> {
  const get = (target: string, fields = ''): string => `GET ${target} HTTP/1.1\r\n${HOST}${fields}\r\n`;
  const last = get('/healthz', 'Connection: close\r\n');
  const chunked = `${write}Transfer-Encoding: chunked\r\n\r\n`;
  const slow = (...steps: Draft['steps']): Draft => ({ steps, end: 'wait', answers: 1, isSlow: true });
  const gone = (...steps: Draft['steps']): Draft => ({ steps, end: 'abort', answers: 0 });
  return {
    'random bytes': () => notHttp(random.bytes(1 + random.below(600))),
    'a TLS hello': () => notHttp(Buffer.concat([Buffer.from('16030100c8010000c40303', 'hex'), random.bytes(194)])),
    'the HTTP/2 preface': () => notHttp(Buffer.concat([text('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.alloc(9)])),
    'nothing at all': () => ({ steps: [], end: 'finish', answers: 0 }),
    'a silent client': () => ({ steps: [], end: 'wait', answers: 1, isSlow: true }),
    'HTTP/0.9': () => notHttp(text('GET /\r\n')),
    SSH: () => notHttp(text('SSH-2.0-x\r\n')),
    'an unknown method': () =>
      refused(`${random.pick(['get', 'FOO', 'GETT', 'G', '*', 'X'.repeat(5000)])} /healthz HTTP/1.1\r\n${HOST}\r\n`),
    CONNECT: () => refused(`CONNECT 127.0.0.1:22 HTTP/1.1\r\n${HOST}\r\n`),
    'an unknown version': () =>
      refused(`GET /healthz HTTP/${random.pick(['9.9', '1.2', '2.0', '1', '1.11', 'x'])}\r\n${HOST}\r\n`),
    'HTTP/1.0': () => ({ steps: [text('GET /healthz HTTP/1.0\r\n\r\n')], end: 'wait', answers: 1 }),
    'HTTP/1.0 with a body': () => refused(`POST /api/v1/devices HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}`),
    'two lengths': () =>
      refused(`${write}Content-Length: 2\r\nContent-Length: ${random.pick(['2', '3', '0'])}\r\n\r\n[]`),
    'a length and chunks': () => refused(`${write}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`),
    'a strange length': () =>
      refused(
        `${write}Content-Length: ${random.pick(['-1', '+2', '0x2', '1e1', '2,2', '', ' ', '9'.repeat(40)])}\r\n\r\n[]`,
      ),
    'a huge length': () => ({
      ...refused(`${write}Content-Length: ${random.pick(['1000000000000000', '99999999'])}\r\n\r\n[]`),
      isSlow: true,
    }),
    'a strange transfer coding': () =>
      refused(
        `${write}Transfer-Encoding: ${random.pick(['gzip', 'chunked, identity', 'x', 'chunked, chunked', ' chunked x', 'identity'])}\r\n\r\n2\r\n[]\r\n0\r\n\r\n`,
      ),
    'a strange chunk size': () =>
      refused(`${chunked}${random.pick(['zz', '-1', 'f'.repeat(20), '0x2', ' ', '2 2', '\0'])}\r\n[]\r\n0\r\n\r\n`),
    'a chunk longer than it says': () => refused(`${chunked}1\r\n[]\r\n0\r\n\r\n`),
    'a chunk shorter than it says': () => ({
      steps: [text(`${chunked}ff\r\n[]\r\n0\r\n\r\n`)],
      end: 'abort',
      answers: 0,
    }),
    'chunks with extensions and trailers': () => ({
      steps: [text(`${chunked}1;a=b;c="d"\r\n[\r\n1;x\r\n]\r\n0\r\nX-Trailer: y\r\n\r\n`), text(last)],
      end: 'wait',
      answers: 2,
    }),
    'a length in a trailer': () => refused(`${chunked}2\r\n[]\r\n0\r\nContent-Length: 5\r\n\r\n`),
    'long chunk extensions': () => refused(`${chunked}1;${'a'.repeat(20_000)}\r\n[\r\n`),
    'a body in chunks over the limit': () =>
      refused(chunked, ...Array.from({ length: 20 }, () => `10000\r\n${' '.repeat(0x10000)}\r\n`), '0\r\n\r\n'),
    'a header without a colon': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}nothing\r\n\r\n`),
    'a folded header': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}A: b\r\n c\r\nConnection: close\r\n\r\n`),
    'a NUL in a header': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}A: b\0c\r\n\r\n`),
    'a space before a colon': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}A : b\r\n\r\n`),
    'bare line feeds': () => refused(`GET /healthz HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n`),
    'a bare carriage return': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}A: b\rC: d\r\n\r\n`),
    'many empty lines first': () => refused('\r\n'.repeat(500), last),
    'a header of a megabyte': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}A: `, 'b'.repeat(1_000_000), '\r\n\r\n'),
    'thousands of headers': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}`, 'A: b\r\n'.repeat(4000), '\r\n'),
    'an address that is too long': () => refused(`GET /${'a'.repeat(100_000)} HTTP/1.1\r\n${HOST}\r\n`),
    'a strange address': () =>
      refused(
        `GET ${random.pick(['/ä', '/a b', '/\x01', '', 'x', '/\0', 'http://', '\xff\xfe', '/\x7f'])} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
      ),
    'two hosts': () => refused(`GET /healthz HTTP/1.1\r\n${HOST}${HOST}Connection: close\r\n\r\n`),
    'no host': () => refused(`GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n`),
    'a strange host': () =>
      refused(
        `GET /api/v1/devices HTTP/1.1\r\nHost: ${random.pick(['', ':', '[', 'a@b', '127.0.0.1:x', '\xe4'])}\r\nConnection: close\r\n\r\n`,
      ),
    'an upgrade': () =>
      refused(
        `GET /healthz HTTP/1.1\r\n${HOST}Connection: Upgrade, close\r\nUpgrade: ${random.pick(['websocket', 'h2c', 'TLS/1.0'])}\r\n\r\n`,
      ),
    'a body that waits for leave': () => ({
      steps: [
        text(`${write}Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n`),
        { pauseMs: 30 },
        text('[]'),
      ],
      end: 'wait',
      answers: 1,
    }),
    'leave for a body that is too large': () =>
      refused(`${write}Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n`),
    'leave that is never used': () =>
      gone(text(`${write}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n`), { pauseMs: 10 }),
    'a pipeline': () => ({ steps: [text(get('/healthz').repeat(15)), text(last)], end: 'wait', answers: 16 }),
    'a pipeline of writes': () => ({
      steps: [text(`${write}Content-Length: 2\r\n\r\n{}`.repeat(5)), text(last)],
      end: 'wait',
      answers: 6,
    }),
    'a pipeline that ends in garbage': () => ({
      steps: [text(get('/healthz')), random.bytes(50)],
      end: 'finish',
      answers: 0,
    }),
    'a request in a body': () => ({
      steps: [text(`${write}Content-Length: ${last.length}\r\n\r\n${last}`), text(last)],
      end: 'wait',
      answers: 2,
    }),
    'a client that has finished': () => ({ steps: [text(get('/healthz'))], end: 'finish', answers: 1 }),
    'an upload that breaks off': () =>
      gone(text(`${write}Content-Length: 100000\r\n\r\n`), text(' '.repeat(random.below(90_000))), {
        pauseMs: random.below(20),
      }),
    'a client that does not wait': () =>
      gone(text(`${write}Content-Length: 2\r\n\r\n[]`), { pauseMs: random.below(5) }),
    'a follower that goes': () => gone(text(get('/api/v1/events?latest=5')), { pauseMs: random.below(30) }),
    'half a header': () => slow(text(`GET /healthz HTTP/1.1\r\n${HOST}A: `)),
    'half a body': () => slow(text(`${write}Content-Length: 100\r\n\r\n[`)),
    'a slow body': () =>
      slow(
        text(`${write}Content-Length: 100\r\n\r\n`),
        ...Array.from({ length: 12 }, () => [text(' '), { pauseMs: 200 }]).flat(),
      ),
    'half a chunk': () => slow(text(`${chunked}5\r\n[`)),
    'a token in a strange place': () =>
      refused(
        `GET /api/v1/devices HTTP/1.1\r\n${HOST}Authorization: ${random.pick(['Basic', 'Bearer Bearer', 'Token', ''])} ${token}\r\nConnection: close\r\n\r\n`,
      ),
  };
}

const names = Object.keys(makers(randomFor(1, 1), '', ''));

/** Each kind comes round. */
export function hostileScript(
  seed: number,
  index: number,
  { device, tokens }: { device: string; tokens: { write: string } },
): HostileScript {
  const random = randomFor(seed, index);
  const name = names[index % names.length]!;
  const authorization = `Authorization: Bearer ${tokens.write}\r\n`;
  const target = `/api/v1/devices/${encodeURIComponent(device)}/rules?dryRun=true`;
  const write = `PUT ${target} HTTP/1.1\r\n${HOST}${authorization}Content-Type: application/json\r\n`;
  const draft = makers(random, write, tokens.write)[name]!();
  return { isSlow: false, ...draft, name, over: random.chance(35) ? 'unix' : 'tcp' };
}
