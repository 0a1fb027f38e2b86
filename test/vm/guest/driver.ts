// SPDX-License-Identifier: Apache-2.0
/**
 * What virtio_net does with XDP, without the product: the facts that the product relies on, each with the kernel that it
 * was seen on in docs/virtio-net.md.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { possibleCpuCount } from '../../../src/app/machine.ts';
import { VnicError } from '../../../src/errors.ts';
import { updateLink } from '../../../src/loader/link.ts';
import { peerAzs } from '../harness/protocol.ts';
import type { Guest, Suite } from './checks.ts';
import { formerName, nicName, run, setCombined, succeeds } from './nic.ts';
import { nicsOf, readLinkFile } from './nics.ts';
import { collect, sendFlows } from './peer.ts';
import { Probe, total } from './probe.ts';

const PORT = 4500;
const TCP_PORT = 7100;
const TCP_BYTES = 512 * 1024;
const RING_ENTRIES = 64;
const ETHERNET_FRAME_BYTES = 1514;
const REPLACEMENTS = 5;

const ifindexOf = ({ machine }: Guest): number => nicsOf(machine)[0]!.ifindex;

function queueFolders(kind: 'rx' | 'tx'): number {
  return readdirSync(`/sys/class/net/${nicName}/queues`).filter((name) => name.startsWith(`${kind}-`)).length;
}

const TRACING = '/sys/kernel/tracing';

/** How often the kernel calls functions of these names while something is done. */
function countCalls(names: readonly string[], action: () => void): number {
  if (!existsSync(`${TRACING}/current_tracer`)) run('mount', '-t', 'tracefs', 'tracefs', TRACING);
  const write = (file: string, text: string) => writeFileSync(`${TRACING}/${file}`, text);
  write('current_tracer', 'nop');
  write('set_ftrace_filter', '');
  for (const name of names) {
    try {
      writeFileSync(`${TRACING}/set_ftrace_filter`, name, { flag: 'a' });
    } catch {
      // This kernel has no such function.
    }
  }
  write('trace', '');
  write('current_tracer', 'function');
  try {
    action();
    return [...readFileSync(`${TRACING}/trace`, 'utf8').matchAll(/^[^#\n].*: \w+ <-/gm)].length;
  } finally {
    write('current_tracer', 'nop');
    write('set_ftrace_filter', '');
  }
}

const NAPI_DISABLE = ['napi_disable', 'napi_disable_locked'];

/** Average size of the frames that half a megabyte of TCP from the peer comes in. */
async function averageFrameBytes({ ask }: Guest, port: number): Promise<number> {
  await ask({ do: 'echo-tcp', endpoint: { address: peerAzs[1].ipv4, port } });
  const count = (name: string) => Number(readLinkFile(nicName, `statistics/${name}`));
  const [packets, bytes] = [count('rx_packets'), count('rx_bytes')];
  const socket = connect({ host: peerAzs[1].ipv4, port });
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.end(Buffer.alloc(TCP_BYTES, 'v'));
  await once(socket, 'end');
  assert.equal(received, TCP_BYTES);
  return (count('rx_bytes') - bytes) / (count('rx_packets') - packets);
}

export const suite: Suite = {
  title: 'what virtio_net does with XDP',
  machines: ['standard'],
  short: [],
  checks: [
    {
      title: 'its counters have the names that the product reads, for each queue',
      run() {
        const shown = run('ethtool', '-S', nicName).matchAll(/^\s*(\w+): \d+$/gm);
        const names = new Set([...shown].map(([, name = '']) => formerName(name)));
        const queues = queueFolders('rx');
        const wanted = [
          'rx_queue_N_xdp_packets',
          'rx_queue_N_xdp_tx',
          'rx_queue_N_xdp_redirects',
          'rx_queue_N_xdp_drops',
        ];
        const more = [
          'rx_queue_N_kicks',
          'rx_queue_N_drops',
          'tx_queue_N_kicks',
          'tx_queue_N_xdp_tx',
          'tx_queue_N_xdp_tx_drops',
        ];
        const all = [...wanted, ...more].flatMap((name) =>
          Array.from({ length: queues }, (_, queue) => name.replace('N', String(queue))),
        );
        assert.deepEqual(
          all.filter((name) => !names.has(name)),
          [],
        );
      },
    },
    {
      title: 'attaching adds an RX queue for each CPU where there are as many to spare, and detaching takes them away',
      async run(guest) {
        const most = guest.machine.nics[0]!.queues;
        const cpus = possibleCpuCount();
        const counts = [...new Set([Math.min(cpus, most), most - cpus, most])].filter((count) => count >= 1);
        try {
          for (const count of counts) {
            setCombined(count);
            const grown = count + cpus <= most ? count + cpus : count;
            using probe = new Probe(guest.native);
            {
              using _link = probe.attach('probe_pass', ifindexOf(guest));
              const combined = /Combined:\s+(\d+)\s*$/.exec(run('ethtool', '-l', nicName))?.[1];
              console.log(`combined ${count}: ${queueFolders('rx')} RX, ${queueFolders('tx')} TX, -l says ${combined}`);
              assert.deepEqual({ rx: queueFolders('rx'), tx: queueFolders('tx') }, { rx: grown, tx: count });
              const sent = await sendFlows(guest, PORT, 24, 2);
              const seen = await collect(() => probe.takeQueues(), sent);
              assert.equal(total(seen), sent);
              const above = [...seen.keys()].filter((queue) => queue >= count);
              assert.equal(above.length > 0, grown > count, `frames on ${[...seen.keys()].join(' ')}`);
            }
            assert.deepEqual({ rx: queueFolders('rx'), tx: queueFolders('tx') }, { rx: count, tx: count });
          }
        } finally {
          setCombined(most);
        }
      },
    },
    {
      title: 'every attach, replacement and detach of a program stops all RX queues; a program array stops none',
      run(guest) {
        const queues = queueFolders('rx');
        using probe = new Probe(guest.native);
        probe.slot.set(0, probe.program('probe_pass'));
        const links: Disposable[] = [];
        const calls = {
          attach: countCalls(NAPI_DISABLE, () => links.push(probe.attach('probe_root', ifindexOf(guest)))),
          slot: countCalls(NAPI_DISABLE, () => probe.slot.set(0, probe.program('probe_redirect'))),
          replace: 0,
          detach: countCalls(NAPI_DISABLE, () => links.pop()?.[Symbol.dispose]()),
        };
        {
          using link = probe.attach('probe_root', ifindexOf(guest));
          calls.replace = countCalls(NAPI_DISABLE, () => updateLink(guest.native, link, probe.program('probe_pass')));
        }
        console.log(`napi_disable: ${JSON.stringify(calls)} with ${queues} queues`);
        assert.equal(calls.slot, 0);
        for (const what of ['attach', 'replace', 'detach'] as const)
          assert.ok(calls[what] >= queues, `${what}: ${calls[what]}`);
      },
    },
    {
      title: 'a program is replaced under traffic: through the program array no frame is lost',
      async run(guest) {
        using probe = new Probe(guest.native);
        const counted = async (replace: (turn: number) => void): Promise<number> => {
          const sending = sendFlows(guest, PORT, 8, 40);
          for (let turn = 0; turn < REPLACEMENTS; turn++) {
            await new Promise((done) => setTimeout(done, 50));
            replace(turn);
          }
          const sent = await sending;
          return sent - total(await collect(() => probe.takeQueues(), sent));
        };
        probe.slot.set(0, probe.program('probe_pass'));
        let slotLost = 0;
        {
          using _root = probe.attach('probe_root', ifindexOf(guest));
          slotLost = await counted(() => probe.slot.set(0, probe.program('probe_pass')));
        }
        using link = probe.attach('probe_pass', ifindexOf(guest));
        const linkLost = await counted(() => updateLink(guest.native, link, probe.program('probe_pass')));
        console.log(`lost with ${REPLACEMENTS} replacements: program array ${slotLost}, link ${linkLost}`);
        assert.equal(slotLost, 0);
      },
    },
    {
      title: 'while a program is attached the number of queues and rx-gro-hw cannot be changed',
      run(guest) {
        const groHw = () => /^rx-gro-hw: (\w+)/m.exec(run('ethtool', '-k', nicName))?.[1];
        const most = guest.machine.nics[0]!.queues;
        using probe = new Probe(guest.native);
        {
          using _link = probe.attach('probe_pass', ifindexOf(guest));
          assert.ok(!succeeds('ethtool', '-L', nicName, 'combined', String(most - 1)));
          const before = groHw();
          const wanted = before === 'on' ? 'off' : 'on';
          assert.ok(!succeeds('ethtool', '-K', nicName, 'rx-gro-hw', wanted));
          assert.equal(groHw(), before);
        }
        assert.ok(succeeds('ethtool', '-L', nicName, 'combined', String(most - 1)));
        setCombined(most);
      },
    },
    {
      title: 'there are no ntuple filters, so nothing but RSS and transmission chooses the RX queue',
      run() {
        assert.match(run('ethtool', '-k', nicName), /^ntuple-filters: off \[fixed\]/m);
        assert.ok(!succeeds('ethtool', '-N', nicName, 'flow-type', 'udp4', 'dst-port', '4500', 'action', '1'));
      },
    },
    {
      title:
        'segments that the peer merged arrive merged without XDP, and one by one with it: none is dropped for its size',
      async run(guest) {
        const merged = await averageFrameBytes(guest, TCP_PORT);
        using probe = new Probe(guest.native);
        using _link = probe.attach('probe_pass', ifindexOf(guest));
        const single = await averageFrameBytes(guest, TCP_PORT + 1);
        console.log(`average frame: ${Math.round(merged)} bytes without XDP, ${Math.round(single)} with it`);
        assert.ok(merged > ETHERNET_FRAME_BYTES, `${merged} bytes without XDP`);
        assert.ok(single <= ETHERNET_FRAME_BYTES, `${single} bytes with XDP`);
      },
    },
    {
      title:
        'XDP redirects to every CPU through a CPUMAP and runs a second program there; a CPU that is not there is refused',
      async run(guest) {
        using probe = new Probe(guest.native);
        using _link = probe.attach('probe_redirect', ifindexOf(guest));
        const cpus = possibleCpuCount();
        for (let cpu = 0; cpu < cpus; cpu++) {
          probe.cpus.set(cpu, { qsize: RING_ENTRIES, progFd: probe.program('probe_cpu') });
          probe.redirectTo(cpu);
          const sent = await sendFlows(guest, PORT, 1, 2);
          assert.deepEqual(await collect(() => probe.takeCpus(), sent), new Map([[cpu, sent]]));
        }
        assert.throws(
          () => probe.cpus.set(cpus, { qsize: RING_ENTRIES }),
          (error) => error instanceof VnicError && error.details['errno'] === 'ENODEV',
        );
      },
    },
    {
      title: 'coalescing by ethtool is not offered by every hypervisor; the NAPI settings always work',
      run() {
        const takesUsecs = succeeds('ethtool', '-C', nicName, 'rx-usecs', '32');
        console.log(`rx-usecs: ${takesUsecs ? 'taken' : 'refused'}`);
        for (const [name, value] of [
          ['gro_flush_timeout', '20000'],
          ['napi_defer_hard_irqs', '2'],
          ['threaded', '1'],
        ] as const) {
          const file = `/sys/class/net/${nicName}/${name}`;
          const before = readFileSync(file, 'utf8').trim();
          writeFileSync(file, value);
          assert.equal(readFileSync(file, 'utf8').trim(), value);
          writeFileSync(file, before);
        }
      },
    },
  ],
};
