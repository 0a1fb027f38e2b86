// SPDX-License-Identifier: Apache-2.0
/**
 * Requests that are HTTP by their form, with everything else wrong: bodies, paths, queries, headers, methods; and right
 * ones in between. Each is made from a seed and its index alone.
 */
import { operations } from '../../src/api/operations/index.ts';
import { headerTricks, methods, queries, segments, targets } from './hostile-parts.ts';
import { bigBodies, hostileJson, hostileLines, hostileYaml, type Random, randomFor } from './hostile-values.ts';

export interface Tokens {
  read: string;
  write: string;
}

export interface HostileSetting {
  /** A device with rules and AZs that stays attached: NAME@NETNS. */
  device: string;
  /** A device that is attached and detached. */
  other: string;
  tokens: Tokens;
}

export interface HostileRequest {
  over: 'unix' | 'tcp';
  bytes: Buffer;
  isHead: boolean;
  /** It is right: it must succeed. */
  isValid: boolean;
}

interface Draft {
  method: string;
  target: string;
  headers: [name: string, value: string][];
  body: Buffer | null;
}

const exampleRule = {
  id: 7,
  priority: 10,
  direction: 'ingress',
  match: { src: '10.1.0.0/16', dst: '10.9.0.1', proto: 'tcp', dstPort: 443 },
  action: 'pass',
  limit: { rate: '10mbit', burst: '64kb', scope: 'rule', mode: 'police' },
  queues: [0, 1, 2],
  shadow: false,
};
export const exampleAzs = [
  { name: 'az-a', queues: '0-10', weight: 1, prefixes: ['10.1.0.0/16'] },
  { name: 'az-b', queues: '11-20', weight: 2, prefixes: ['10.2.0.0/16', 'fd00:b::/32'] },
  { name: 'az-c', queues: [21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31], weight: 1, prefixes: [] },
];
export const exampleRules = [
  { id: 1, action: 'drop', match: { src: '10.66.0.0/16' } },
  { ...exampleRule, id: 2 },
  { id: 3, action: 'pass', match: { dst: 'fd00:b::/32', proto: 'udp' }, queues: [4] },
  { id: 4, action: 'pass', direction: 'egress', match: { proto: 'icmp' } },
  { id: 5, action: 'drop', match: { src: '10.2.3.4', proto: 'tcp', srcPort: '1024-65535' }, priority: 3 },
];

function attachBody(setting: HostileSetting): Record<string, unknown> {
  const [name, netns] = setting.other.split('@');
  return {
    name,
    netns,
    mode: 'native',
    egress: 'tcx',
    maxFlows: 64,
    maxRules: 64,
    deliverMetadata: false,
    num_queues: 32,
    azs: exampleAzs,
    rules: exampleRules.slice(0, 2),
  };
}

/** The example that the API's document gives. */
function documented(id: string): unknown {
  const example = operations.find((one) => one.id === id)?.body?.example;
  if (example === undefined) throw new Error(`there is no example of a body for ${id}`);
  return example;
}

/** A body that each operation takes. */
function validBody(id: string, random: Random, setting: HostileSetting): unknown {
  switch (id) {
    case 'attachDevice':
      return attachBody(setting);
    case 'replaceRules':
      return random.chance(50) ? exampleRules : { items: [exampleRule] };
    case 'patchRules':
      return {
        set: [{ ...exampleRule, id: 1 + random.below(30) }],
        add: [{ id: 31, action: 'drop' }],
        delete: [1 + random.below(30)],
      };
    case 'applyQos':
      return { flow_id: 1 + random.below(5), rate: 10_000 };
    case 'putRule':
      return { ...exampleRule, id: undefined };
    case 'replaceAzs':
      return exampleAzs;
    case 'putAz':
      return { ...random.pick(exampleAzs), name: undefined };
    case 'failAz':
      return { force: false };
    case 'planFailure':
      return { az: 'az-a', force: false };
    case 'rebalanceDevice':
      return { threshold: 1 + random.below(3), minGain: 0.01, force: random.chance(50) };
    case 'startCapture':
      return { snaplen: 1 + random.below(200), count: 1 + random.below(100) };
    case 'readCapture':
      return { session: 1 + random.below(1000) };
    case 'explainPacket':
      return {
        src: '10.1.0.5',
        srcPort: 4000,
        dst: '10.9.0.1',
        dstPort: 443,
        proto: 'tcp',
        direction: 'ingress',
        bytes: 64,
      };
    default:
      return documented(id);
  }
}

/** Those that take long are asked for less often. */
const costly = new Set([
  'diagnoseDevice',
  'getTable',
  'listQueues',
  'planFailure',
  'recoverAz',
  'failAz',
  'applyTuning',
  'restoreTuning',
]);
const common = operations.filter(({ id }) => !costly.has(id));
const withBody = operations.filter(({ body }) => body !== null);

function pathOf(template: string, params: Record<string, string>): string {
  return template.replaceAll(/\{(\w+)\}/g, (_, name: string) => params[name] ?? name);
}

function draftOf(
  random: Random,
  setting: HostileSetting,
  list: readonly (typeof operations)[number][],
): Draft & { id: string } {
  const { id, method, path, body } = random.pick(list);
  // Nothing here may take off the device that stays.
  const device = encodeURIComponent(id === 'detachDevice' ? setting.other : setting.device);
  const params = { device, id: String(1 + random.below(30)), az: random.pick(exampleAzs).name };
  const isDry =
    (id === 'attachDevice' && random.chance(80)) ||
    ['detachDevice', 'replaceAzs', 'replaceSpec', 'applyTuning'].includes(id);
  return {
    id,
    method: method.toUpperCase(),
    target: `${pathOf(path, params)}${isDry ? '?dryRun=true' : ''}`,
    headers: [],
    body: body === null ? null : Buffer.from(JSON.stringify(validBody(id, random, setting))),
  };
}

function withHostileBody(random: Random, setting: HostileSetting): Draft {
  const draft = draftOf(random, setting, withBody);
  const { otherTypes = [] } = operations.find(({ id }) => id === draft.id)!.body!;
  const type = random.chance(40) ? random.pick(['application/json', ...otherTypes]) : 'application/json';
  const body = hostileBody(random, type, validBody(draft.id, random, setting));
  return { ...draft, body, headers: [['content-type', type]] };
}

function hostileBody(random: Random, type: string, valid: unknown): Buffer {
  if (type === 'application/yaml' && random.chance(80)) return hostileYaml(random);
  if (type === 'application/x-ndjson' && random.chance(80)) return hostileLines(random);
  return hostileJson(random, valid);
}

function withHostilePath(random: Random, setting: HostileSetting): Draft {
  const method = random.pick(['GET', 'GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS']);
  if (random.chance(40)) return { method, target: random.pick(targets), headers: [], body: null };
  const draft = draftOf(random, setting, operations);
  const [path = '', query] = draft.target.split('?');
  const parts = path.split('/');
  const place = 1 + random.below(parts.length);
  if (random.chance(80) && place < parts.length) parts[place] = random.pick(segments);
  else parts.splice(place, 0, random.pick(segments));
  // Never without it: what is left could name a device by chance.
  const target = `${parts.join('/')}${query === undefined ? '' : `?${query}`}`;
  return { ...draft, target };
}

function withHostileQuery(random: Random, setting: HostileSetting): Draft {
  const draft = draftOf(random, setting, random.chance(90) ? common : operations);
  if (draft.id === 'detachDevice') return { ...draft, target: `${draft.target}&${random.pick(queries)}` };
  return { ...draft, target: `${draft.target.split('?')[0]}?${random.pick(queries)}` };
}

function withHostileMethod(random: Random, setting: HostileSetting): Draft {
  const draft = draftOf(random, setting, operations);
  return {
    ...draft,
    method: random.pick(methods),
    body: random.chance(50) ? draft.body : null,
  };
}

function withHostileHeaders(random: Random, setting: HostileSetting): Draft {
  const draft = draftOf(random, setting, common);
  const tricks = [...random.pick(headerTricks), ...(random.chance(20) ? random.pick(headerTricks) : [])];
  return { ...draft, headers: tricks };
}

/** Ids that nothing else uses. */
const OWN_RULES = 900_000;

function validDraft(random: Random, setting: HostileSetting): Draft {
  const device = `/api/v1/devices/${encodeURIComponent(setting.device)}`;
  const get = (target: string): Draft => ({ method: 'GET', target, headers: [], body: null });
  const write = (method: string, target: string, body: unknown): Draft => {
    return { method, target, headers: [['content-type', 'application/json']], body: Buffer.from(JSON.stringify(body)) };
  };
  const id = OWN_RULES + random.below(8);
  const rule = { id, action: 'drop', match: { src: `10.77.${random.below(256)}.${random.below(256)}` } };
  switch (random.below(16)) {
    case 0:
      return get('/healthz');
    case 1:
      return get('/readyz');
    case 2:
      return get(random.chance(50) ? '/metrics' : '/api/v1/metrics');
    case 3:
      return get('/api/v1/devices');
    case 4:
      return get(device);
    case 5:
      return get(`${device}/rules`);
    case 6:
      return get(`${device}/rules?limit=2`);
    case 7:
      return get(`${device}/azs`);
    case 8:
      return get(random.chance(90) ? `${device}/flows?top=5&by=packets` : `${device}/queues`);
    case 9:
    case 10:
      return write('POST', `${device}/explain`, {
        src: '10.1.2.3',
        dst: '10.9.0.1',
        proto: 'udp',
        srcPort: random.below(65_536),
      });
    case 11:
      return write('PUT', `${device}/rules/${id}`, rule);
    case 12:
      return write('PATCH', `${device}/rules`, { set: [rule] });
    case 13:
      return write('PUT', `${device}/rules?dryRun=true`, [...exampleRules, rule]);
    case 14:
      return random.chance(10) ? get('/api/v1/openapi.json') : { ...get(device), method: 'HEAD' };
    default:
      return { ...get(`${device}/rules`), method: 'OPTIONS' };
  }
}

/** Large ones go where they are read; each kind comes round. */
function bigDraft(random: Random, setting: HostileSetting, turn: number): Draft {
  const { type, make } = bigBodies[turn % bigBodies.length]!;
  const ids =
    type === 'application/yaml'
      ? ['replaceRules']
      : type === 'application/x-ndjson'
        ? ['replaceRules', 'applyQos']
        : withBody.map(({ id }) => id);
  const draft = draftOf(
    random,
    setting,
    withBody.filter(({ id }) => ids.includes(id)),
  );
  return { ...draft, headers: [['content-type', type]], body: make() };
}

/** The other device comes and goes. */
function lifeDraft(setting: HostileSetting, turn: number): Draft {
  if (turn % 2 === 1) {
    return {
      method: 'DELETE',
      target: `/api/v1/devices/${encodeURIComponent(setting.other)}`,
      headers: [],
      body: null,
    };
  }
  return {
    method: 'POST',
    target: '/api/v1/devices',
    headers: [],
    body: Buffer.from(JSON.stringify(attachBody(setting))),
  };
}

type Kind = (random: Random, setting: HostileSetting) => Draft;

function kindOf(random: Random): Kind {
  const place = random.below(100);
  if (place < 34) return withHostileBody;
  if (place < 58) return withHostilePath;
  if (place < 72) return withHostileQuery;
  if (place < 88) return withHostileHeaders;
  return withHostileMethod;
}

const BIG_EVERY = 2500;
const BIG_FIRST = 7;

/** Indices at which each of the large bodies is sent once. */
export function bigIndices(first: number): number[] {
  return bigBodies.map((_, turn) => Math.ceil(first / BIG_EVERY) * BIG_EVERY + turn * BIG_EVERY + BIG_FIRST);
}

/** @param index from 0; the same seed and index give the same request */
export function hostileRequest(seed: number, index: number, setting: HostileSetting): HostileRequest {
  const random = randomFor(seed, index);
  const over = random.chance(35) ? 'unix' : 'tcp';
  const isValid = index % 20 === 5;
  if (isValid) return finish(validDraft(random, setting), over, setting.tokens.write, true);
  const token = random.chance(60) ? setting.tokens.write : random.pick([setting.tokens.read, 'vnic_nobody', null]);
  if (index % 2000 === 11) return finish(lifeDraft(setting, Math.floor(index / 2000)), 'unix', null, false);
  if (index % BIG_EVERY === BIG_FIRST) {
    return finish(bigDraft(random, setting, Math.floor(index / BIG_EVERY)), over, setting.tokens.write, false);
  }
  return finish(kindOf(random)(random, setting), over, token, false);
}

function finish(draft: Draft, over: 'unix' | 'tcp', token: string | null, isValid: boolean): HostileRequest {
  const { method, target, body } = draft;
  const given = new Set(draft.headers.map(([name]) => name));
  const headers = [
    ...(given.has('host') ? [] : [['host', '127.0.0.1']]),
    ...(token === null || given.has('authorization') ? [] : [['authorization', `Bearer ${token}`]]),
    ...draft.headers,
    ...(body === null ? [] : [['content-length', String(body.length)]]),
  ];
  const head = `${method} ${target} HTTP/1.1\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  const bytes = Buffer.concat([Buffer.from(head, 'latin1'), body ?? Buffer.alloc(0)]);
  return { over, bytes, isHead: method === 'HEAD', isValid };
}
