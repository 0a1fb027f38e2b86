// SPDX-License-Identifier: Apache-2.0
/** Parts of requests that are HTTP by their form and nothing that anybody should send. */

/** In place of a part of a path. */
export const segments = [
  ['..', '.', '%2e%2e', '%2e%2e%2f%2e%2e%2fetc%2fpasswd', '..%2f', '%00', 'vnic0%00', 'a%00b', '%', '%zz', '%1', '%ff'],
  ['%c0%ae%c0%ae', '%ed%a0%80', '%f0%9f%92%a5', '@', '@@', 'vnic0@', '@x', 'a@b@c', 'a@%00', 'a@..', 'a@.', 'a@%2f'],
  [
    '%20',
    '+',
    ';',
    'a;b=c',
    'a=b',
    '__proto__',
    'constructor',
    'toString',
    '-1',
    '0',
    '00',
    '1.5',
    '4294967296',
    '1e3',
  ],
  ['0x1', '%d9%a3', '*', '(.*)', '{device}', ':device', '%0d%0aX:%20y', '%09', '$(id)', 'NaN', 'null', '2147483648'],
  ['%25', '%2500', '%5c', '\\', '|', '~', '!', "'", '"', '<', '>', '%u0041', 'vnic0%40x', '%E2%80%AE', '9'.repeat(30)],
  ['a'.repeat(15), 'a'.repeat(16), 'a'.repeat(64), 'a'.repeat(5000), `a@${'b'.repeat(255)}`, `a@${'b'.repeat(256)}`],
  [`a@${'%f0%9f%92%a5'.repeat(60)}`, `a@${'%01'.repeat(100)}`, `a@${'.'.repeat(250)}`, `a@${'%25'.repeat(120)}`],
].flat();

/** In place of path and query. */
export const targets = [
  ['/', '//', '///', '/api', '/api/', '/api/v1', '/api/v1/', '/api/v2/devices', '//api/v1/devices', '/api//v1/devices'],
  ['/api/v1/devices/', '/API/V1/DEVICES', '/api/v1/../v1/devices', '/./healthz', '/healthz/', '/healthz/..', '/..'],
  ['/../../etc/passwd', '/api/v1/%2e%2e/v1/devices', '/%61pi/v1/devices', '/api%2fv1%2fdevices', '/healthz%00', '/%'],
  ['/?', '/??', '/?=', '/?&', '/healthz?', '/healthz?%', '/healthz#x', '/api/v1/devices#', '/;', '/.', '/.git/config'],
  ['/api\\v1', '/\\', '/favicon.ico', '/robots.txt', '/index.php?x=1', '/cgi-bin/;id', '/metrics/', '/metrics%20'],
  ['http://127.0.0.1/healthz', 'http://127.0.0.1/api/v1/devices', 'http://x/api/v1/devices', 'http://a:99999999/', '*'],
  [
    'http://[::1]/healthz',
    'http://user:pass@127.0.0.1/healthz',
    'http://%00/',
    'HTTP://127.0.0.1/HEALTHZ',
    'http://a/%',
  ],
  ['https://x/', 'ftp://x/', 'file:///etc/passwd', 'javascript:alert(1)', 'data:,x', 'http://x', 'http://x?y', 'urn:x'],
  ['http://[v1.x]/healthz', 'http://a b/', 'http://xn--/healthz', 'http://256.256.256.256/', '/api/v1/events/x', '/*'],
  [`/${'a'.repeat(8000)}`, `/${'a/'.repeat(4000)}`, `/${'%61'.repeat(4000)}`, `/${'../'.repeat(3000)}`],
  [`/?${'a&'.repeat(5000)}`],
].flat();

export const queries = [
  [
    'a[]=1',
    'a[]=1&a[]=2',
    'limit=1&limit=2',
    'limit',
    'limit=',
    'limit=-1',
    'limit=1e3',
    'limit=0',
    'limit=99999999999',
  ],
  [
    'limit[$gt]=1',
    'cursor=',
    'cursor=%00',
    'cursor=AAAA',
    'cursor=MS4xLjE',
    'top=1',
    'top=0',
    'top=67108864',
    'by=rate',
  ],
  [
    'by=__proto__',
    '__proto__=1',
    '__proto__[x]=1',
    'constructor=1',
    'dryRun=TRUE',
    'dryRun=1',
    'dryRun=true&dryRun=false',
  ],
  ['dryRun=true&DRYRUN=1', 'mode=native', 'mode=x', 'queues=64', 'queues=65', '%', '%zz=1', '%ff=%fe', '=', '&&&', '?'],
  [
    'a=%00',
    '%00=a',
    'a;b',
    'a=1;b=2',
    '💥',
    '%f0%9f%92%a5=1',
    '+',
    'a=+',
    'force=true&x=1',
    'latest=0',
    'latest=x',
    '#',
  ],
  ['cursor=ODk5OTk5OTk5OS45OTkuOTk5OTk5OTk5OQ', 'toString=1', 'limit=%31', 'limit=٣', 'x'.repeat(8000), '??a'],
  [Array.from({ length: 1500 }, (_, n) => `k${n}=1`).join('&'), Array.from({ length: 2000 }, () => 'a=1').join('&')],
]
  .flat()
  .map((text) => Buffer.from(text).toString('latin1'));

/** That HTTP has and nothing here takes. DELETE is not among them: it may be right on the path that it comes to. */
export const methods = [
  ['TRACE', 'OPTIONS', 'PROPFIND', 'PROPPATCH', 'MKCOL', 'COPY', 'MOVE', 'LOCK', 'UNLOCK', 'REPORT', 'SEARCH', 'ACL'],
  [
    'M-SEARCH',
    'NOTIFY',
    'SUBSCRIBE',
    'PURGE',
    'LINK',
    'UNLINK',
    'BIND',
    'MERGE',
    'CHECKOUT',
    'HEAD',
    'QUERY',
    'SOURCE',
  ],
].flat();

type Fields = [name: string, value: string][];

/** One field with each of the values. */
function each(name: string, ...values: string[]): Fields[] {
  return values.map((value): Fields => [[name, value]]);
}

function flood(count: number, value: string): Fields {
  return Array.from({ length: count }, (_, n) => [`x${n}`, value]);
}

const manyTags = Array.from({ length: 1500 }, (_, n) => `"${n}"`).join(',');

/** Fields that are added together. */
export const headerTricks: readonly Fields[] = [
  ...each(
    'accept',
    'text/html',
    '*/*;q=0',
    'q=abc',
    'application/json;q=-1',
    'application/json;q=1e999',
    '',
    'a/b;c="d,e"',
  ),
  ...each(
    'accept',
    ','.repeat(2000),
    'application/yaml',
    'application/x-ndjson',
    '*',
    '*/json',
    'application/*;q=0.001',
  ),
  ...each(
    'content-type',
    'text/plain',
    'application/json; charset=utf-16',
    'application/json;;;',
    ';',
    '',
    '*/*',
    '__proto__',
  ),
  ...each('content-type', 'multipart/form-data; boundary=x', 'APPLICATION/JSON', 'application/yaml', 'x'.repeat(4000)),
  ...each('content-type', 'application/x-ndjson', 'application/x-www-form-urlencoded'),
  ...each('if-match', '*', '"x"', 'W/"x"', '""', '"', ',', '* , *', manyTags, 'x'.repeat(8000)),
  ...each('if-none-match', '*', '"x"', ',,,', 'W/*', manyTags),
  ...each('content-encoding', 'gzip', 'br', 'deflate, gzip', 'identity', 'zstd', 'x'),
  ...each('range', 'bytes=0-', 'bytes=-1', 'bytes=0-0,1-1', 'x=1'),
  ...each('origin', 'http://evil.example', 'null', 'http://127.0.0.1', '://', 'http://[', 'x'.repeat(3000)),
  ...each(
    'authorization',
    'Bearer',
    'Bearer ',
    'Bearer x',
    'Basic eDp5',
    'bearer x y',
    '\u00ff',
    'Bearer vnic_',
    'Negotiate',
  ),
  ...each('authorization', `Bearer ${'a'.repeat(8000)}`),
  ...each('connection', 'close', 'keep-alive, close, upgrade, x'),
  ...each('expect', '100-continue', '200-ok', ''),
  ...each('host', 'evil.example', '', '127.0.0.1:99999', '[::1]', 'localhost.evil.example'),
  ...each('cookie', 'a=b; '.repeat(1000)),
  ...each('transfer-encoding', ''),
  [
    ['connection', 'upgrade'],
    ['upgrade', 'websocket'],
    ['sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='],
    ['sec-websocket-version', '13'],
  ],
  [
    ['connection', 'Upgrade, HTTP2-Settings'],
    ['upgrade', 'h2c'],
    ['http2-settings', 'AAMAAABkAAQAAP__'],
  ],
  [
    ['te', 'trailers, deflate'],
    ['trailer', 'content-length'],
  ],
  [
    ['x-forwarded-for', '1.2.3.4'],
    ['forwarded', 'for=x'],
    ['x-real-ip', '::1'],
  ],
  [
    ['x-http-method-override', 'DELETE'],
    ['x-original-url', '/api/v1/devices'],
  ],
  [
    ['__proto__', 'x'],
    ['constructor', 'y'],
    ['hasownproperty', 'z'],
  ],
  [
    ['if-modified-since', 'x'],
    ['if-range', 'x'],
    ['if-unmodified-since', '-1'],
  ],
  [
    ['last-event-id', '../../x'],
    ['accept', 'text/event-stream'],
  ],
  [
    ['accept-encoding', 'gzip, br, *;q=0'],
    ['accept-language', '\u00e9'.repeat(100)],
    ['accept-charset', 'utf-7'],
  ],
  flood(30, 'y'),
  flood(70, 'y'),
  flood(60, 'z'.repeat(200)),
  flood(1000, ''),
];
