// SPDX-License-Identifier: Apache-2.0
/** Long work says on a terminal how far it is, and nothing of it in a pipe. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { buildFrame } from '../../src/captures/build-frame.ts';
import { writePcap } from '../../src/captures/write.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { CliRig } from '../support/cli.ts';
import { onTerminal } from '../support/terminal.ts';

const RULES = 10_000;
const PACKETS = 150_000;
const MOST_PACKETS = 2_400_000;
const CLEAR = '\r\x1b[K';

function* frames(count: number) {
  const [src, dst] = [parseAddress('10.1.0.5'), parseAddress('10.9.0.1')];
  const data = buildFrame({ src, dst, srcPort: 1000, dstPort: 53, proto: 17, frameBytes: 100 });
  for (let packet = 0; packet < count; packet++) yield { timeNs: BigInt(packet) * 1000n, data };
}

describe('the progress of commands', function () {
  this.timeout(120_000);
  let rig: CliRig;

  before(() => {
    rig = new CliRig('progress');
    rig.ok(['attach', 'vnic0']);
  });
  after(() => {
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  /** The lines that were drawn over each other; what is left at the end stands last. */
  async function drawn(...args: string[]): Promise<string[]> {
    const command = [process.execPath, 'src/cli/main.ts', '--netns', rig.guest, '--yes', ...args];
    const session = onTerminal(command, { VNIC_STATE_DIR: rig.stateFolder, VNIC_SOCKET: rig.socket });
    assert.equal(await session.done, 0, session.output());
    return session.output().split(CLEAR);
  }

  it('is shown for rules that are imported', async () => {
    const file = path.join(rig.folder, 'rules.ndjson');
    const rules = Array.from({ length: RULES }, (_, index) =>
      JSON.stringify({
        id: index + 1,
        action: 'drop',
        match: { src: `10.9.${index >> 8}.${index & 255}`, proto: 'tcp' },
      }),
    );
    writeFileSync(file, rules.join('\n'));
    const lines = await drawn('rule', 'import', file);
    assert.ok(lines.includes('loading 10,000 rules'), lines.join('\n'));
    assert.match(lines.at(-1)!, /^vnic0@.*: 10,000 rules added/, 'the line is gone');
    const { code, stderr } = rig.run(['rule', 'import', file]);
    assert.deepEqual([code, stderr], [0, '']);
  });

  it('is shown for a capture that is replayed, as a share of the file', async () => {
    const file = path.join(rig.folder, 'many.pcap');
    const replayed = async (count: number): Promise<string[]> => {
      writePcap(file, frames(count));
      const lines = await drawn('replay', file, '--limit', '0');
      assert.match(lines.at(-1)!, new RegExp(`${count.toLocaleString('en')} packets`));
      // What is over in a moment is not worth a line: how many packets that is depends on the machine.
      return lines.length === 1 && count < MOST_PACKETS ? await replayed(4 * count) : lines;
    };
    const lines = await replayed(PACKETS);
    assert.match(lines.slice(0, -1).join('\n'), /replaying .*many\.pcap: \d+ % of \d+\.\d MiB/);
  });

  it('is shown for packets that are captured', async () => {
    const lines = await drawn('capture', 'vnic0', '-w', path.join(rig.folder, 'a.pcapng'), '--seconds', '1');
    assert.match(lines.join('\n'), /\d+ packets? captured, \d+ matched \(for 1 s\)/);
    assert.match(lines.at(-1)!, /packets? in .*a\.pcapng, of \d+ packets? that matched/);
  });
});
