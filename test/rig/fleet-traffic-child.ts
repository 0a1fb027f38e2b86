// SPDX-License-Identifier: Apache-2.0
/**
 * Sends to every address that it is given, round after round, to ports where nobody listens: the kernel of the receiver
 * counts each packet that came through (Udp NoPorts). Prints how many it sent to each when its stdin ends.
 */
import { createSocket } from 'node:dgram';
import { isPortOf } from './fleet-traffic.ts';

const ROUND_MS = 20;
const addresses = process.argv.slice(2);
const socket = createSocket('udp4');
const sent = addresses.map(() => 0);
const payload = Buffer.alloc(64);

// Refusals of ports where nobody listens come back here.
socket.on('error', () => undefined);
socket.bind(0, () => {
  let round = 0;
  const timer = setInterval(() => {
    round++;
    for (const [index, address] of addresses.entries()) {
      socket.send(payload, isPortOf(round), address, (error) => {
        if (error === null) sent[index]!++;
      });
    }
  }, ROUND_MS);
  process.stdin.resume().on('end', () => {
    clearInterval(timer);
    // What was handed over is on its way, and counted.
    setTimeout(() => {
      process.stdout.write(`${JSON.stringify(sent)}\n`);
      socket.close();
    }, 5 * ROUND_MS);
  });
  process.stdout.write('ready\n');
});
