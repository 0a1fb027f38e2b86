// SPDX-License-Identifier: Apache-2.0
/** Bodies that nobody should send: JSON, YAML and lines that are wrong in every way, from a seeded source. */
import { randomSource } from './random.ts';

export class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = randomSource(seed);
  }

  /** From 0 to `end` - 1. */
  below(end: number): number {
    return this.#next() % end;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}

/** A source of its own for each request, so that one can be made again without those before it. */
export function randomFor(seed: number, index: number): Random {
  const mixed = Math.imul((seed ^ Math.imul(index + 1, 0x9e37_79b1)) | 1, 0x85eb_ca6b) >>> 0;
  const random = new Random(mixed === 0 ? 1 : mixed);
  // The first numbers of near seeds are near each other.
  for (let warmUp = 0; warmUp < 4; warmUp++) random.below(2);
  return random;
}

/** JSON with its text kept, so that it can hold what no value can: the same key twice, 1e400. */
type Node = string | { fields: [key: string, value: Node][] } | { items: Node[] };

function toNode(value: unknown): Node {
  if (Array.isArray(value)) return { items: value.map(toNode) };
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return { fields: Object.entries(value).map(([key, inner]) => [JSON.stringify(key), toNode(inner)]) };
}

function toText(node: Node): string {
  if (typeof node === 'string') return node;
  if ('items' in node) return `[${node.items.map(toText).join(',')}]`;
  return `{${node.fields.map(([key, value]) => `${key}:${toText(value)}`).join(',')}}`;
}

/** Valid JSON, wherever it stands. No number between 1e5 and 2^26: it might be taken as a size. */
const strange = [
  ['0', '-1', '-0', '1', '2', '63', '64', '65535', '65536', '4294967295', '4294967296', '9007199254740993'],
  ['1e308', '1e400', '-1e400', '1e-400', '0.1', '1.5', '2147483648', '9'.repeat(400), `0.${'1'.repeat(400)}`],
  ['null', 'true', 'false', '""', '" "', '"NaN"', '"Infinity"', '"-0"', '"0x10"', '"1e3"', '"undefined"', '"null"'],
  ['[]', '{}', '[[]]', '[null]', '[{}]', '{"":""}', '{"length":1e9}', '{"then":1}', '{"toJSON":1}', '{"valueOf":1}'],
  ['{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}', '{"toString":null}'],
  ['"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"a\\u0000b"', '"\\u202e"', '"💥💥💥"', '"\\r\\nX: y"', '"\\u2028"'],
  ['"../../../etc/passwd"', '"%00"', '"$(id)"', '"{{7*7}}"', `"';--"`, '"<script>"', '"/"', '"."', '".."'],
  ['"10.0.0.0/33"', '"10.0.0.0/-1"', '"::/0"', '"::ffff:0:0/96"', '"0.0.0.0/0"', '"1.2.3"', '"fe80::1%1"', '"[::]"'],
  ['"0-4294967295"', '"1-"', '"-"', '"5-1"', '"0-63"', '"0,0"', '"1,,2"', '"65536"', '"0-65535"', '"1-2-3"'],
  ['"1e30gbit"', '"-1mbit"', '"0bit"', '"10 parsecs"', '"1kpps"', '"18446744073709551616"', '"tcp"', '"shape"'],
  ['"drop"', '"egress"', '{"rate":1e400}', '{"rate":"1mbit","burst":"1"}', '{"src":"10.0.0.0/8","dst":"::1"}'],
  [`"${'x'.repeat(300)}"`],
  [`"${'\\u0000'.repeat(50)}"`],
  [`[${'0,'.repeat(70)}0]`],
  [`${'['.repeat(200)}${']'.repeat(200)}`],
  [`${'{"a":'.repeat(200)}1${'}'.repeat(200)}`],
].flat();

const strangeKeys = [
  ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then', '', '0', 'length', 'id ', 'ID'],
  ['unknown', '\u0000', '\ud800', '💥', 'a.b', 'a[0]', '$ref', '<<', 'x'.repeat(200)],
]
  .flat()
  .map((key) => JSON.stringify(key));

function mutate(random: Random, node: Node): Node {
  if (typeof node === 'string' || random.chance(12)) return random.pick(strange);
  if ('items' in node) {
    const items = [...node.items];
    const place = random.below(items.length + 1);
    if (place < items.length && random.chance(75)) items[place] = mutate(random, items[place]!);
    else items.splice(place, 0, random.chance(50) ? random.pick(strange) : (items[0] ?? 'null'));
    return { items };
  }
  const fields = [...node.fields];
  const place = random.below(fields.length + 1);
  const field = fields[place];
  const what = random.below(10);
  if (field !== undefined && what < 6) fields[place] = [field[0], mutate(random, field[1])];
  else if (field !== undefined && what < 7) fields.splice(place, 1);
  else if (field !== undefined && what < 8) fields.push([field[0], random.pick(strange)]);
  else fields.splice(place, 0, [random.pick(strangeKeys), random.pick(strange)]);
  return { fields };
}

/** Text that no JSON parser takes. */
const noJson = [
  ['NaN', 'Infinity', 'undefined', "{'a':1}", '{a:1}', '[1,]', '{"a":1,}', '01', '+1', '.5', '1.', '-', '"\\u00"'],
  [
    '/* c */ 1',
    '// c\n1',
    '{',
    '[',
    '"',
    '}',
    ']',
    ',',
    ' ',
    '\n',
    '{"a"}',
    '{"a":}',
    '[1 2]',
    'nul',
    '"\t"',
    '\u0000',
  ],
  ['[]]', '{}{}', '1 1', '<xml/>', 'a=b&c=d', '--boundary', '%7B%7D', '#!/bin/sh', '\ufeff[]', '\u2028'],
].flat();

function corrupt(random: Random, text: string): Buffer {
  const bytes = Buffer.from(text);
  const place = random.below(bytes.length + 1);
  switch (random.below(7)) {
    case 0:
      return bytes.subarray(0, place);
    case 1:
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]);
    case 2:
      return Buffer.concat([bytes.subarray(0, place), Buffer.from([0xc0, 0xaf, 0xff, 0xfe]), bytes.subarray(place)]);
    case 3:
      return Buffer.from(text, 'utf16le');
    case 4:
      return Buffer.concat([bytes.subarray(0, place), random.bytes(4), bytes.subarray(place)]);
    case 5:
      return random.bytes(1 + random.below(64));
    default:
      return Buffer.from(random.pick(noJson));
  }
}

/** The body of a request that would be right, with one or two things wrong with it. */
export function hostileJson(random: Random, valid: unknown): Buffer {
  let node = mutate(random, toNode(JSON.parse(JSON.stringify(valid))));
  if (random.chance(15)) node = mutate(random, node);
  const text = toText(node);
  return random.chance(15) ? corrupt(random, text) : Buffer.from(text);
}

/** Every level takes all of the level before nine times. */
function yamlBomb(levels: number): string {
  const line = (level: number): string =>
    level === 0
      ? `a0: &a0 [${'x,'.repeat(9)}x]`
      : `a${level}: &a${level} [${Array.from({ length: 9 }, () => `*a${level - 1}`).join(',')}]`;
  return Array.from({ length: levels }, (_, level) => line(level)).join('\n');
}

const yamls = [
  yamlBomb(9),
  yamlBomb(3),
  '&a [*a]',
  '- &a\n  id: 1\n  action: *a',
  '- &a {id: 1, action: drop, match: *a}',
  '- *nowhere',
  '- !!js/function "function () { return 1 }"',
  '- !!js/undefined x',
  '- !!binary "////"',
  '- !!set {a, b}',
  '- !!timestamp 2001-12-14t21:59:43.10-05:00',
  '- !!python/object/apply:os.system ["id"]',
  '- !<tag:yaml.org,2002:int> x',
  '- !local {id: 1}',
  '- {id: !!float 1e400, action: drop}',
  '- {id: .nan, action: .inf}',
  '- {id: 0o17, action: ~}',
  '- {<<: {id: 1}, action: drop}',
  'base: &b {id: 1}\nrules:\n- <<: *b\n  action: drop',
  '- __proto__: {id: 1}\n  action: drop',
  '- constructor: {prototype: {polluted: 1}}',
  '- ? {a: 1}\n  : b',
  '- ? [1, 2]\n  : {id: 1}',
  '- ? *x\n  : 1',
  '---\n- {id: 1, action: drop}\n---\n- {id: 2, action: drop}',
  '%YAML 9.9\n---\n- 1',
  '%TAG ! tag:evil.example,2000:\n---\n- !x 1',
  '- {id: 1, id: 2, action: drop}',
  '\t- tab',
  '- |\n text',
  'plain',
  '42',
  'null',
  '',
  '...',
  '- "\\ud800"',
  '- "\\x00"',
  `- ${'- '.repeat(400)}1`,
  `${'{a: '.repeat(300)}1${'}'.repeat(300)}`,
];

export function hostileYaml(random: Random): Buffer {
  const text = random.pick(yamls);
  return random.chance(15) ? corrupt(random, text) : Buffer.from(text);
}

const lines = [
  ['', ' ', '{}', '[]', 'null', '1', '"x"', '{', '}{', 'NaN', '{"id":1}', '{"id":1,"action":"drop"}', '\u0000'],
  ['{"flow_id":1,"rate":-1}', '{"flow_id":1,"rate":1e400}', '{"flow_id":"1","rate":"1"}', '{"flow_id":1}', '\r'],
  ['{"flow_id":0,"rate":1}', '{"flow_id":4294967296,"rate":1}', '{"flow_id":1,"rate":1,"x":1}', '\ufeff{}'],
  ['{"flow_id":1,"rate":null}', '{"__proto__":1}', '{"flow_id":[1],"rate":{}}', '\u2028', '[[[[', '{"id":{"id":1}}'],
].flat();

export function hostileLines(random: Random): Buffer {
  const text = Array.from({ length: 1 + random.below(6) }, () => random.pick(lines)).join(
    random.pick(['\n', '\r\n', '\n\n']),
  );
  return random.chance(15) ? corrupt(random, text) : Buffer.from(text);
}

const DEEP = 100_000;

/** Much of something; costly, so for few requests. */
export const bigBodies: readonly { type: string; make: () => Buffer }[] = [
  { type: 'application/json', make: () => Buffer.from(`${'['.repeat(DEEP)}${']'.repeat(DEEP)}`) },
  { type: 'application/json', make: () => Buffer.from('['.repeat(DEEP)) },
  { type: 'application/json', make: () => Buffer.from(`${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`) },
  { type: 'application/json', make: () => Buffer.from(`[${'['.repeat(DEEP)}${']'.repeat(DEEP)}]`) },
  {
    type: 'application/json',
    make: () => Buffer.from(`{"name":"x","netns":"y","rules":[${'['.repeat(DEEP)}${']'.repeat(DEEP)}]}`),
  },
  {
    type: 'application/json',
    make: () => Buffer.from(`[{"id":1,"action":"drop","match":${'{"src":'.repeat(DEEP)}1${'}'.repeat(DEEP)}}]`),
  },
  { type: 'application/json', make: () => Buffer.from(JSON.stringify(Array.from({ length: DEEP }, () => null))) },
  {
    type: 'application/json',
    make: () => Buffer.from(JSON.stringify({ set: Array.from({ length: DEEP }, () => null) })),
  },
  { type: 'application/json', make: () => Buffer.from(JSON.stringify('x'.repeat(1_000_000))) },
  { type: 'application/json', make: () => Buffer.from(`[${'9'.repeat(1_000_000)}]`) },
  {
    type: 'application/json',
    make: () => Buffer.from(`{${Array.from({ length: 20_000 }, (_, key) => `"k${key}":${key}`).join(',')}}`),
  },
  { type: 'application/json', make: () => Buffer.from(JSON.stringify([{ id: 1, action: 'x'.repeat(1_000_000) }])) },
  { type: 'application/json', make: () => Buffer.alloc(1_000_000, ' ') },
  { type: 'application/json', make: () => Buffer.alloc(1_000_000) },
  { type: 'application/x-ndjson', make: () => Buffer.from('{}\n'.repeat(20_000)) },
  { type: 'application/x-ndjson', make: () => Buffer.from(`{"flow_id":1,"rate":1}\n`.repeat(20_000)) },
  { type: 'application/x-ndjson', make: () => Buffer.from(`{${'['.repeat(DEEP)}`) },
  { type: 'application/yaml', make: () => Buffer.from('['.repeat(DEEP)) },
  { type: 'application/yaml', make: () => Buffer.from('- '.repeat(20_000)) },
  { type: 'application/yaml', make: () => Buffer.from(`${yamlBomb(9)}\n${'# x\n'.repeat(20_000)}`) },
  { type: 'application/yaml', make: () => Buffer.from('- &a x\n- *a\n'.repeat(2000)) },
  { type: 'application/yaml', make: () => Buffer.from(`- ${'x'.repeat(1_000_000)}`) },
];
