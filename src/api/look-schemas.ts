// SPDX-License-Identifier: Apache-2.0
/** Latencies and captured packets, as operations take and give them. */
import { z } from 'zod';
import { CAPTURE_MAX_SNAPLEN } from '../app/capture.ts';
import { count, counter, latencyHistogram, nullableInt, unavailableReason } from './schema-parts.ts';

const socketTimes = z
  .object({ value: latencyHistogram.nullable(), unavailable: unavailableReason })
  .meta({ id: 'SocketTimes', description: 'Since the daemon was started.' });

export const latencyReport = z
  .object({
    device: z.string(),
    toCpu: latencyHistogram.meta({ description: 'from XDP entry to the CPU of the queue' }),
    toSocket: z
      .object({ tcp: socketTimes, udp: socketTimes })
      .meta({ id: 'ToSocket', description: 'From XDP entry to the queue of the socket, by protocol.' }),
    rtt: z
      .object({
        mode: z.enum(['timestamps', 'handshakes', 'off']),
        remark: z.string().nullable().meta({ description: 'why there may be nothing, or less than could be' }),
        unstamped: counter,
        unanswered: counter,
        azs: z.array(
          z
            .object({
              az: z.string().nullable().meta({ description: 'null: peers of no AZ that is known' }),
              rtt: latencyHistogram,
            })
            .meta({ id: 'AzRtt' }),
        ),
      })
      .meta({
        id: 'RttReport',
        description:
          'Round-trip times of TCP, measured in passing. unstamped: TCP packets that were looked at and had no timestamp; unanswered: probes whose echo did not come, but a later one.',
      }),
  })
  .meta({ id: 'LatencyReport' });

const session = z.int('the session that startCapture gave').min(1).max(0xffff_ffff);

const snaplenText = `bytes from 1 to ${CAPTURE_MAX_SNAPLEN}`;
const ratePps = 'packets/s from 1 to 1000000';

export const captureRequest = z
  .strictObject({
    rule: z.int('a rule id').min(1, 'a rule id').optional().meta({ description: 'only packets that matched it' }),
    az: z.string('the name of an AZ').optional().meta({ description: 'only packets from it' }),
    snaplen: z.int(snaplenText).min(1, snaplenText).max(CAPTURE_MAX_SNAPLEN, snaplenText).optional(),
    count: z.int('packets, 1 or more').min(1, 'packets, 1 or more').optional(),
    packetsPerSecond: z.int(ratePps).min(1, ratePps).max(1_000_000, ratePps).optional().meta({
      description: 'bound; what comes above it is counted (default 20000)',
    }),
  })
  .meta({ id: 'CaptureRequest' });

export const captureStarted = z
  .object({ device: z.string(), session, snaplen: count, leaseMs: count })
  .meta({ id: 'CaptureStarted', description: 'It ends by itself when its packets are not read for `leaseMs`.' });

export const captureStopped = z
  .object({ device: z.string(), stopped: z.boolean().meta({ description: 'false: it was over before' }) })
  .meta({ id: 'CaptureStopped' });

export const captureSession = z.strictObject({ session }).meta({ id: 'CaptureSession' });

export const capturedPacket = z
  .object({
    time: z.string().meta({ description: 'ns since 1970, as decimal digits' }),
    wireBytes: count,
    outcome: z.enum(['pass', 'drop', 'limit', 'unparsed']),
    reason: z.string().nullable(),
    rule: nullableInt,
    az: z.string().nullable(),
    queue: nullableInt,
    rxQueue: count,
    shadow: z.boolean().meta({ description: 'the rule counts what it would drop' }),
    data: z.string().meta({ description: 'the head of the frame', format: 'byte' }),
  })
  .meta({ id: 'CapturedPacket' });

export const captureRead = z
  .object({
    packets: z.array(capturedPacket),
    matched: counter,
    captured: counter,
    overAllowance: counter,
    ringFull: counter,
    interrupted: z.boolean().meta({ description: 'packets before this read are missing: it came too late' }),
    complete: z.boolean().meta({ description: '`count` packets have been captured' }),
  })
  .meta({
    id: 'CaptureRead',
    description:
      'Counts are since the capture began. overAllowance: matched, but more came than packetsPerSecond; ringFull: matched, but earlier packets had not been read yet.',
  });
