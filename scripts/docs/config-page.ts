// SPDX-License-Identifier: Apache-2.0
/** docs/config.md and vnic.yaml(5), from the schema of the configuration file. Pure. */
import type { ConfigField } from './config-fields.ts';
import { page, plain, section } from './man-pages.ts';

const EXAMPLE = `devices:
  eth0:
    num_queues: 32
    azs:
      - {name: az-a, queues: 0-10, prefixes: [10.1.0.0/16, "fd00:a::/32"], silence_ms: 20}
      - {name: az-b, queues: 11-21, prefixes: [10.2.0.0/16]}
    rules:
      - {id: 7, match: {src: 10.1.0.0/16, proto: udp, dstPort: 53}, action: pass, limit: {rate: 10mbit, scope: flow}}
daemon:
  listen: 127.0.0.1:9090`;

const RULES = 'One schema for YAML and JSON. An unknown field is a mistake, and a file with a mistake changes nothing';

/** The group of a field: what stands before its own name. */
function groupOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('.')));
}

function grouped(fields: readonly ConfigField[]): Map<string, ConfigField[]> {
  const groups = Map.groupBy(fields, ({ path }) => groupOf(path));
  return new Map(
    [...groups].sort(([a], [b]) => Number(/^(?:daemon|fleet)/.test(a)) - Number(/^(?:daemon|fleet)/.test(b))),
  );
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

export function configPage(fields: readonly ConfigField[]): string {
  const lines = [
    '# Configuration file',
    '',
    '<!-- Generated from src/config by make generate. -->',
    '',
    `${RULES}:`,
    '`vnicctl config check FILE` names each with its place and what to do. `vnicctl attach --config` and `vnicctl serve',
    '--config` read it; the service reads `/etc/vnic/vnic.yaml`. `*` is the name of a device, `[]` each of a list. Defaults',
    'are in brackets; what has none may be left out, except where it says *required*.',
    '',
    '```yaml',
    EXAMPLE,
    '```',
    '',
  ];
  for (const [group, members] of grouped(fields)) {
    lines.push(
      group === '' ? '## The file' : `## \`${group}\``,
      '',
      '| Field | Type | |',
      '|---|---|---|',
      ...members.map(
        ({ path, type, required, meaning }) =>
          `| \`${nameOf(path)}\` | ${type} | ${required ? '*required.* ' : ''}${meaning.replaceAll('|', '\\|')} |`,
      ),
      '',
    );
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

export function configManual(fields: readonly ConfigField[]): string {
  const groups = [...grouped(fields)].map(([group, members]) =>
    section(
      group === '' ? 'THE FILE' : group.toUpperCase().replaceAll('*', 'NAME'),
      members
        .map(
          ({ path, type, required, meaning }) =>
            `*${plain(nameOf(path))}* (${plain(type)}${required ? '; required' : ''})\n\t${plain(meaning)}`,
        )
        .join('\n\n'),
    ),
  );
  return page('vnic.yaml(5)', [
    section('NAME', 'vnic.yaml - configuration of vnicd and of the devices that it attaches'),
    section(
      'DESCRIPTION',
      `${RULES}: *vnicctl config check* names each with its place. Below, NAME is the name of a device and [] each of a list. Defaults are in brackets.\n\n\`\`\`\n${EXAMPLE}\n\`\`\``,
    ),
    ...groups,
    section('SEE ALSO', '*vnicctl*(8), *vnicd*(8)'),
  ]);
}
