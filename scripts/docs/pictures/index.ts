// SPDX-License-Identifier: Apache-2.0
/** The pictures of docs/concepts.md; steering tables in them are made by the planner itself. */

import { arrow, box, colours, picture, words } from './svg.ts';
import { plannedRows } from './tables.ts';

const AZS = ['az-a', 'az-b', 'az-c'] as const;

/** The way of a packet, from the card to the stack. */
function wayOfAPacket(): string {
  const y = 90;
  const steps: [string, string][] = [
    ['parse', 'VLAN, IPv4, IPv6,\nports, fragments'],
    ['flow', 'one look-up:\nrule, AZ, limiter'],
    ['limit', 'pass, or drop\nand count'],
    ['bucket', 'hash & 4095\nin the row of its AZ'],
    ['queue', "steering table:\nthe bucket's queue"],
  ];
  return picture(
    900,
    260,
    'The way of a packet: from a queue of the card through the XDP program to the CPU of its queue',
    [
      words(20, 30, 'in the kernel, for each packet', { anchor: 'start', colour: colours.quiet }),
      box({ x: 20, y, width: 90, height: 70 }, 'card', 'RX queue\nas it comes', '#ffffff'),
      ...steps.flatMap(([title, note], index) => [
        arrow(110 + index * 135, y + 35, 135 + index * 135, y + 35),
        box({ x: 135 + index * 135, y, width: 110, height: 70 }, title, note),
      ]),
      arrow(785, y + 35, 810, y + 35),
      box({ x: 810, y, width: 75, height: 70 }, 'CPU', 'of the\nqueue', '#ffffff'),
      arrow(460, y + 70, 460, 205, 'drop'),
      words(460, 225, 'counted by reason', { size: 11 }),
      arrow(190, y + 70, 190, 205, 'cannot be parsed'),
      words(190, 225, 'counted, and passed to the stack as before', { size: 11 }),
      arrow(847, y + 70, 847, 205),
      words(835, 225, 'network stack', { size: 11 }),
    ],
  );
}

/** Rows of AZs, columns of queues; a column of the row that is drawn has the colour of the queue's AZ. */
function tables(): string {
  const parts: string[] = [];
  const draw = (x: number, title: string, lost: string | null): void => {
    parts.push(words(x + 180, 30, title, { bold: true }));
    for (const [row, { name, queues }] of plannedRows(AZS, lost).entries()) {
      const y = 55 + row * 50;
      parts.push(words(x, y + 22, name, { anchor: 'start', size: 12 }));
      for (const [column, queue] of queues.entries()) {
        const fill = colours.az[Math.floor(queue / 2)] ?? colours.lost;
        const at = x + 60 + column * 25;
        parts.push(`<rect x="${at}" y="${y}" width="25" height="34" fill="${fill}" stroke="${colours.line}"/>`);
        parts.push(words(at + 12.5, y + 22, String(queue), { size: 12 }));
      }
    }
    for (const [index, name] of AZS.entries()) {
      const fill = name === lost ? colours.lost : colours.az[index]!;
      parts.push(
        `<rect x="${x + 60 + index * 120}" y="215" width="16" height="16" fill="${fill}" stroke="${colours.line}"/>`,
      );
      parts.push(
        words(x + 82 + index * 120, 228, `queues ${index * 2}-${index * 2 + 1}${name === lost ? ', lost' : ''}`, {
          anchor: 'start',
          size: 11,
        }),
      );
    }
  };
  draw(20, 'all AZs are up', null);
  draw(460, 'az-b is lost: only its buckets moved', 'az-b');
  return picture(
    900,
    245,
    'Steering tables of 12 buckets and 6 queues, made by the planner: before and after the loss of an AZ',
    parts,
  );
}

/** A failure from its first moment to the flows' way home. */
function failover(): string {
  const y = 120;
  const at = (ms: number): number => 60 + ms * 8;
  return picture(900, 230, 'A failover by silence of 20 ms, over time', [
    `<line x1="40" y1="${y}" x2="880" y2="${y}" stroke="${colours.line}" stroke-width="2" marker-end="url(#head)"/>`,
    words(850, y + 22, 'time, not to scale', { size: 11, colour: colours.quiet }),
    `<rect x="${at(0)}" y="${y - 12}" width="${at(21) - at(0)}" height="24" fill="${colours.lost}" stroke="${colours.line}"/>`,
    words((at(0) + at(21)) / 2, y + 5, 'silence_ms: 20', { size: 12 }),
    arrow(at(0), 60, at(0), y - 14),
    words(at(0) + 10, 50, "last packet of az-b's prefixes", { size: 12, anchor: 'start' }),
    arrow(at(21), 90, at(21), y - 14),
    words(at(21) - 10, 80, 'kernel timer (1 ms): one compare-and-swap', { size: 12, anchor: 'start' }),
    arrow(at(40), y + 60, at(40), y + 14),
    words(at(40), y + 78, 'daemon records it, loads\nthe next standby tables', { size: 12 }),
    arrow(at(65), 60, at(65), y - 14),
    words(at(65), 50, 'az-b sends again', { size: 12 }),
    arrow(at(85), y + 60, at(85), y + 14),
    words(at(85), y + 78, 'flows go home in order,\neach when its queue is empty of it', { size: 12 }),
  ]);
}

/** Who talks to whom, and where the boundaries are. */
function processes(): string {
  return picture(900, 400, 'Processes and their boundaries: commands, daemon, kernel', [
    words(20, 28, 'users', { anchor: 'start', colour: colours.quiet }),
    box({ x: 20, y: 40, width: 170, height: 56 }, 'vnicctl', 'any command', colours.user),
    box({ x: 230, y: 40, width: 170, height: 56 }, 'Prometheus', 'GET /metrics', '#ffffff'),
    box({ x: 440, y: 40, width: 170, height: 56 }, 'live page', 'reading; writing by token', '#ffffff'),
    box({ x: 650, y: 40, width: 220, height: 56 }, 'automation', 'REST, bearer token, TLS', '#ffffff'),
    arrow(105, 96, 105, 158, 'Unix socket 0660'),
    arrow(315, 96, 315, 158, 'loopback'),
    arrow(525, 96, 525, 158, 'loopback'),
    arrow(760, 96, 760, 158, 'TLS, if asked for'),
    `<line x1="10" y1="132" x2="890" y2="132" stroke="${colours.quiet}" stroke-dasharray="3 4"/>`,
    box(
      { x: 20, y: 160, width: 850, height: 60 },
      'vnicd',
      'answers in one thread, acts in another; five capabilities, system call filter; records in /var/lib/vnic',
      colours.user,
    ),
    arrow(200, 220, 200, 288, 'bpf(2), netlink, ethtool'),
    arrow(520, 220, 520, 288, 'mapped memory: counters, the word that names the table'),
    `<line x1="10" y1="256" x2="890" y2="256" stroke="${colours.quiet}" stroke-dasharray="3 4"/>`,
    words(880, 272, 'kernel', { anchor: 'end', size: 11, colour: colours.quiet }),
    box(
      { x: 20, y: 290, width: 410, height: 70 },
      'programs, maps and links',
      'pinned below /sys/fs/bpf/vnic/: they go on without a daemon',
    ),
    box(
      { x: 460, y: 290, width: 410, height: 70 },
      'watch',
      'a timer of 1 ms: silence, BFD time-outs, standby tables, dead-man',
    ),
    words(450, 388, 'a command without a daemon does its work itself, under the same lock', {
      size: 12,
      colour: colours.quiet,
    }),
  ]);
}

/** File name to picture. */
export function pictures(): Map<string, string> {
  return new Map([
    ['way-of-a-packet.svg', wayOfAPacket()],
    ['tables.svg', tables()],
    ['failover.svg', failover()],
    ['processes.svg', processes()],
  ]);
}
