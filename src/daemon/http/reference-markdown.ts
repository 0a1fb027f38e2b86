// SPDX-License-Identifier: Apache-2.0
/** The OpenAPI document as a text to read. Pure: the document in, Markdown out. */
import type { ApiDocument, Content, OperationObject, ResponseObject, Schema } from './openapi-shape.ts';
import { capital, escapeText, schemaText, slug, table, typeText } from './reference-schemas.ts';

const PROBLEM_TYPE = 'application/problem+json';

/** Routes that the daemon answers itself; the others work on devices. */
const DAEMON_TAG = 'daemon';

export interface ReferenceEntry {
  readonly heading: string;
  readonly anchor: string;
  readonly summary: string;
}

export interface ReferenceSection {
  readonly heading: string;
  readonly anchor: string;
  readonly entries: readonly ReferenceEntry[];
}

interface Located {
  readonly heading: string;
  readonly operation: OperationObject;
}

function operationsOf({ paths }: ApiDocument): Located[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ heading: `${method.toUpperCase()} ${path}`, operation })),
  );
}

const sectionHeading = (tag: string): string => (tag === 'azs' ? 'Availability zones' : capital(tag));

/** What the page has, in its order. Throws if two headings had the same anchor. */
export function referenceContents(document: ApiDocument): ReferenceSection[] {
  const all = operationsOf(document);
  const entry = (heading: string, summary: string): ReferenceEntry => ({ heading, anchor: slug(heading), summary });
  const sections = [
    ...document.tags.map(({ name }) => ({
      ...entry(sectionHeading(name), ''),
      entries: all
        .filter(({ operation }) => operation.tags[0] === name)
        .map(({ heading, operation }) => entry(heading, operation.summary)),
    })),
    { ...entry('Schemas', ''), entries: Object.keys(document.components.schemas).map((name) => entry(name, '')) },
  ];
  const anchors = sections.flatMap(({ anchor, entries }) => [anchor, ...entries.map((item) => item.anchor)]);
  const twice = anchors.find((anchor, index) => anchors.indexOf(anchor) !== index);
  if (twice !== undefined) throw new Error(`two headings have the anchor ${twice}`);
  return sections;
}

/** The codes that a problem response names. */
function codesOf({ description, content }: ResponseObject): { code: string; meaning: string }[] {
  if (content?.[PROBLEM_TYPE] === undefined) return [];
  return [...description.matchAll(/^`(\w+)`: (.*)$/gm)].map(([, code = '', meaning = '']) => ({ code, meaning }));
}

/** Codes that every operation on devices can give: said once. */
function commonCodes(located: readonly Located[]): Set<string> {
  const sets = located
    .filter(({ operation }) => operation.tags[0] !== DAEMON_TAG)
    .map(
      ({ operation }) =>
        new Set(
          Object.values(operation.responses)
            .flatMap(codesOf)
            .map(({ code }) => code),
        ),
    );
  return new Set([...(sets[0] ?? [])].filter((code) => sets.every((codes) => codes.has(code))));
}

function whoMay({ security, responses }: OperationObject): string {
  if (security !== undefined) return 'Access: [write](#who-may-do-what).';
  if (responses['401'] === undefined) return 'Access: everybody who can connect.';
  return 'Access: [read](#who-may-do-what).';
}

function parametersText({ parameters = [] }: OperationObject): string[] {
  if (parameters.length === 0) return [];
  const rows = parameters.map(({ name, in: place, required, description, schema }) => [
    `\`${name}${required === true ? '' : '?'}\``,
    place,
    escapeText(typeText(schema)),
    escapeText(description ?? schema.description ?? ''),
  ]);
  return [table(['parameter', 'in', 'type', 'meaning'], rows)];
}

function jsonBlock(value: unknown): string {
  return `\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\``;
}

const typesText = (content: Content): string =>
  Object.keys(content)
    .map((type) => `\`${type}\``)
    .join(', ');

const schemaIn = (content: Content): Schema =>
  Object.values(content).find(({ schema }) => schema !== undefined)?.schema ?? {};

function bodyText({ requestBody }: OperationObject): string[] {
  if (requestBody === undefined) return [];
  const { content, required } = requestBody;
  const schema = schemaIn(content);
  const example = Object.values(content).find((media) => media.example !== undefined)?.example;
  const optional = required === true ? '' : ', may be left out';
  const isObject = schema.properties !== undefined;
  return [
    `**Body** (${typesText(content)}${optional})${isObject ? ':' : `: ${escapeText(typeText(schema))}`}`,
    ...(isObject ? [schemaText(schema)] : []),
    ...(example === undefined ? [] : [jsonBlock(example)]),
  ];
}

function successText(response: ResponseObject): string[] {
  const { content, headers = {} } = response;
  const body = content === undefined ? '' : `${resultText(schemaIn(content))} (${typesText(content)})`;
  const tags = Object.keys(headers).map((name) => `\`${name}\``);
  return [body, `${escapeText(response.description)}${tags.length === 0 ? '' : ` Header ${tags.join(', ')}.`}`];
}

/** Lists are objects without a name: what they hold says more than `object`. */
function resultText(schema: Schema): string {
  const { items, next } = schema.properties ?? {};
  if (items?.items === undefined || next === undefined) return escapeText(typeText(schema));
  return `page of ${escapeText(typeText(items.items))}`;
}

function responsesText({ responses }: OperationObject, common: ReadonlySet<string>): string[] {
  const rows = Object.entries(responses).flatMap(([status, response]) => {
    const codes = codesOf(response);
    // What the introduction says of every operation.
    if (status === 'default') return [];
    if (codes.length === 0) return [[status, ...successText(response)]];
    return codes
      .filter(({ code }) => !common.has(code))
      .map(({ code, meaning }) => [status, `\`${code}\``, escapeText(meaning)]);
  });
  return [table(['status', 'answer', 'meaning'], rows)];
}

function operationText({ heading, operation }: Located, common: ReadonlySet<string>): string {
  const isOfDaemon = operation.tags[0] === DAEMON_TAG;
  return [
    `### ${heading}`,
    `**${escapeText(operation.summary)}.**${operation.description === undefined ? '' : ` ${escapeText(operation.description)}`}`,
    whoMay(operation),
    ...parametersText(operation),
    ...bodyText(operation),
    ...responsesText(operation, isOfDaemon ? new Set() : common),
  ].join('\n\n');
}

function introduction({ info }: ApiDocument, common: ReadonlySet<string>): string {
  const codes = [...common].map((code) => `\`${code}\``).join(', ');
  return `# REST API

${escapeText(info.description)} The whole of it, for programs, is at \`/api/v1/openapi.json\`.

\`\`\`sh norun
curl --unix-socket /run/vnic/vnicd.sock http://localhost/api/v1/devices
curl http://127.0.0.1:9090/api/v1/devices/eth0/rules
curl -X PUT -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  --data @rules.json http://127.0.0.1:9090/api/v1/devices/eth0/rules
\`\`\`

## Who may do what

| | reading | writing |
|---|---|---|
| Unix socket | everybody who may open it (its mode and group) | root, the daemon’s own user, members of \`daemon.socket.group\` |
| TCP on loopback | everybody | a token of scope \`write\` |
| TCP off loopback (TLS only) | a token of scope \`read\` or \`write\` | a token of scope \`write\` |

A token is sent as \`Authorization: Bearer TOKEN\`; the configuration has its SHA-256 only. One that is not known is refused
for reading too (\`unauthorized\`). On loopback the \`Host\` header has to be an IP address or \`localhost\`, and a browser’s write
has to come from a page of the daemon itself (\`not_permitted\`). \`/healthz\`, \`/readyz\` and the files of the page at
\`/\`, which have no data in them, take no token.

## What holds everywhere

- Errors are \`application/problem+json\` with \`code\`, \`detail\` and \`remedy\`. Every operation on devices can answer with ${codes};
  what fails on the daemon’s side has the status 500.
- Addresses are taken as they are: a query parameter stands at most once, and a path has no slash at its end.
- \`HEAD\` works where \`GET\` does, and \`OPTIONS\` answers with \`Allow\`.
- Bodies are not compressed. Their size, requests in a second (over TCP), requests at a time and event streams are limited by
  \`daemon.limits\`: \`too_large\`, and \`too_many_requests\` with \`Retry-After\`.
- A field or parameter with \`?\` may be left out. Names carry units.
- A page is \`{"items":[…],"next":CURSOR}\`: ask again with \`?cursor=CURSOR\`, until \`next\` is null.
- Each answer has an \`X-Request-Id\`, which the log of the daemon has too.`;
}

export function referenceMarkdown(document: ApiDocument): string {
  const located = operationsOf(document);
  const common = commonCodes(located);
  const parts = [introduction(document, common)];
  for (const { heading, entries } of referenceContents(document).slice(0, -1)) {
    const tag = document.tags.find(({ name }) => sectionHeading(name) === heading);
    const rows = entries.map((item) => [`[${item.heading}](#${item.anchor})`, escapeText(item.summary)]);
    parts.push(`## ${heading}`, escapeText(tag?.description ?? ''), table(['operation', 'does'], rows));
    const headings = new Set(entries.map((item) => item.heading));
    for (const one of located) if (headings.has(one.heading)) parts.push(operationText(one, common));
  }
  parts.push('## Schemas');
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    const { description } = schema;
    parts.push(
      `### ${name}`,
      ...(description === undefined ? [] : [capital(escapeText(description))]),
      schemaText(schema),
    );
  }
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}
