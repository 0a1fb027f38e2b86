// SPDX-License-Identifier: Apache-2.0
/** The programs on a kernel that is older than the host's: they load, parse and count there. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Dataplane } from '../../../src/app/dataplane.ts';
import { explainFrame } from '../../../src/app/explain.ts';
import type { Native } from '../../../src/loader/ffi/index.ts';
import { ProgramRunner } from '../../../src/loader/program.ts';
import { readCounters } from '../../../src/telemetry/counters.ts';
import { captureSet } from '../../support/capture-set.ts';
import { packet } from '../../support/packet.ts';
import { resultText } from '../../support/reference-parser.ts';
import { type Check, type Suite, skipCheck } from './checks.ts';

const checkout = path.join(import.meta.dirname, '../../..');
const size = {
  queues: 32,
  maxFlows: 16_384,
  maxRules: 1024,
  hashSeed: 7,
  deliverMetadata: false,
  latencySampleShift: 6,
  replay: false,
};

/** From nothing to a page and beyond: the last two are in several buffers. */
const payloadSizes = [0, 1000, 8000, 30_000];

function load(native: Native, compiler: string): Dataplane {
  const object = path.join(checkout, `build/check/${compiler}/bpf/vnic.bpf.o`);
  if (!existsSync(object)) skipCheck(`${compiler} is not installed on the host`);
  return Dataplane.create(native, size, object);
}

function compilerCheck(compiler: string): Check {
  return {
    title: `what ${compiler} compiled loads, and counts frames of one buffer and of several with their full length`,
    run({ native }) {
      using dataplane = load(native, compiler);
      const runner = new ProgramRunner(native, dataplane.program('vnic_ingress'), { maxInputBytes: 65_536 });
      const frames = payloadSizes.map((bytes) => packet().ethernet().ipv4().udp().payload(bytes).build());
      for (const frame of frames) runner.run(frame);
      const { rxPackets, rxBytes, parsed } = readCounters(dataplane);
      const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
      assert.deepEqual({ rxPackets, rxBytes, parsed }, { rxPackets: 4n, rxBytes: BigInt(bytes), parsed: 4n });
    },
  };
}

export const suite: Suite = {
  title: 'the programs on its kernel',
  checks: [
    compilerCheck('clang-14'),
    compilerCheck('clang-19'),
    {
      title: 'they do without bpf_cast_to_kern_ctx where the kernel lacks it',
      run({ native }) {
        const symbols = readFileSync('/proc/kallsyms', 'utf8');
        if (/ bpf_cast_to_kern_ctx$/m.test(symbols)) skipCheck('this kernel has bpf_cast_to_kern_ctx (Linux 6.2)');
        using dataplane = Dataplane.create(native, size);
        assert.ok(dataplane.program('vnic_root').value > 2);
      },
    },
    {
      title: 'they parse every frame of the capture set as the reference parser does',
      run({ native }) {
        using dataplane = Dataplane.create(native, size);
        const names = { azName: () => null, ruleId: () => null };
        // BPF_PROG_RUN takes frames from 14 bytes on and knows no other length on the wire.
        const cases = captureSet.filter(
          ({ frame, wireBytes }) => frame.length === wireBytes && frame.length >= 14 && frame.length <= 3520,
        );
        assert.ok(cases.length > 1000, `${cases.length} cases`);
        for (const { theme, name, frame, expect } of cases) {
          const answer = explainFrame(dataplane, frame, 'ingress', names);
          const text =
            answer.unparsed ?? `${answer.src} ${answer.srcPort} > ${answer.dst} ${answer.dstPort} proto ${answer.proto}`;
          assert.equal(text, resultText(expect), `${theme}: ${name}`);
        }
      },
    },
  ],
};
