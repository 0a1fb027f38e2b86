// SPDX-License-Identifier: Apache-2.0
/** A capture file through the dataplane, with as much room for flows as it turns out to need. */
import { readCapture } from '../captures/read.ts';
import { type ReplayReport, replay } from '../captures/replay.ts';
import type { DeviceConfig } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import { DeviceModel } from './device-model.ts';
import { onlineCpus } from './machine.ts';
import { BpfReplay } from './replay-dataplane.ts';

const DEFAULT_QUEUES = 32;
const FIRST_ROOM = 65_536;
const MAX_ROOM = 4_194_304;
const ROOM_FACTOR = 8;

export interface CaptureReplay {
  report: ReplayReport;
  /** The file is damaged: the report covers what stood before. */
  damage?: VnicError;
}

/**
 * Replays a capture. Throws `not_found`, `invalid_capture` (not a capture), `capacity_exceeded` (too many flows to count
 * each of them).
 * @param onRead told how much of the file is done; a file of many flows is read again
 */
export function replayCapture(
  native: Native,
  file: string,
  config: DeviceConfig,
  onRead?: (bytes: number, ofBytes: number) => void,
): CaptureReplay {
  const model = DeviceModel.plan(config, config.numQueues ?? DEFAULT_QUEUES, onlineCpus());
  for (let room = FIRST_ROOM; room <= MAX_ROOM; room *= ROOM_FACTOR) {
    using dataplane = new BpfReplay(native, model, room);
    let damage: VnicError | undefined;
    const report = replay(readCapture(file, onRead), dataplane, {
      onDamage: (error) => {
        damage = error;
      },
    });
    if (dataplane.evicted === 0) return damage === undefined ? { report } : { report, damage };
  }
  throw new VnicError('capacity_exceeded', `${file} has more flows than can be counted one by one.`, {
    remedy: `Split it so that each part has fewer than ${MAX_ROOM / 2} flows: editcap -c PACKETS FILE NEWFILE`,
    details: { file, maxFlows: MAX_ROOM },
  });
}
