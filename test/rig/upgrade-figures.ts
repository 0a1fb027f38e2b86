// SPDX-License-Identifier: Apache-2.0
/** Prints what upgrades under traffic cost: loss, order, duration; for builds that leave vnic_cpu alone and that do not. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { objectPath } from '../../src/app/dataplane.ts';
import { buildDataplane, type Edits, withNop } from '../support/builds.ts';
import { Setting } from './scenarios/setting.ts';
import { checkUpgrades } from './scenarios/upgrade.ts';
import { createRig } from './topology.ts';

const ratePps = Number(process.argv[2] ?? 500_000);
const folder = mkdtempSync(path.join(tmpdir(), 'vnic-builds-'));
try {
  using rig = createRig({ id: 'figures' });
  using setting = new Setting(rig);
  setting.attach();
  const kinds: Record<string, Edits> = {
    'compiled with -O3': { Makefile: (text) => text.replace('-O2', '-O3') },
    'vnic_cpu changed': withNop('vnic_cpu', 'vnic_ingress'),
    'vnic_root changed': withNop('vnic_root'),
  };
  for (const [index, [kind, edits]] of Object.entries(kinds).entries()) {
    const other = buildDataplane(folder, String(index), { edits });
    const files = [other, objectPath, other, objectPath, other, objectPath];
    const { sent, lost, reordered, packetsPerSecond, upgrades } = await checkUpgrades(setting, files, {
      flows: 10_000,
      ratePps,
      pauseMs: 500,
    });
    const { programs } = upgrades[0]!.report;
    console.log(
      `${kind}: ${Object.entries(programs)
        .map(([name, change]) => `${name} ${change}`)
        .join(', ')}`,
    );
    console.log(
      `  ${upgrades.length} upgrades of ${upgrades.map(({ durationMs }) => durationMs.toFixed(0)).join(', ')} ms; ` +
        `${sent} packets at ${packetsPerSecond.toFixed(0)}/s, ${lost} lost, ${reordered} reordered`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
