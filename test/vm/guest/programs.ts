// SPDX-License-Identifier: Apache-2.0
/**
 * The programs on the guest's kernel, which may lack what newer ones have (bpf_cast_to_kern_ctx came with Linux 6.2):
 * they load, parse and count there.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Dataplane, programNames } from '../../../src/app/dataplane.ts';
import { explainFrame } from '../../../src/app/explain.ts';
import { objectInfo, ProgramRunner } from '../../../src/loader/program.ts';
import { BpfProgInfo } from '../../../src/maps/generated/host.ts';
import { readCounters } from '../../../src/telemetry/counters.ts';
import { captureSet } from '../../support/capture-set.ts';
import { packet } from '../../support/packet.ts';
import { resultText } from '../../support/reference-parser.ts';
import { objectOf } from '../harness/objects.ts';
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

/** The verifier gives up at a million instructions (BPF_COMPLEXITY_LIMIT_INSNS). */
const MOST_VERIFIED = 750_000;
/** In one buffer of a page, at its end, and in several. */
const PAYLOADS_BYTES = [0, 1000, 8000, 30_000];

/** The one loaded last: loading is what takes the time here. */
let loaded: Dataplane | undefined;

function compilerCheck(compiler: string): Check {
  return {
    title: `what ${compiler} compiled loads, and counts frames of one buffer and of several with their full length`,
    run({ native }) {
      const object = path.join(checkout, objectOf(compiler));
      if (!existsSync(object)) skipCheck(`${compiler} is not installed on the host`);
      loaded?.close();
      loaded = undefined;
      const dataplane = Dataplane.create(native, size, object);
      loaded = dataplane;
      for (const name of programNames) {
        const { verifiedInsns } = BpfProgInfo.decode(objectInfo(native, dataplane.program(name)));
        console.log(`${compiler}: ${name}: ${verifiedInsns} instructions verified`);
        assert.ok(verifiedInsns < MOST_VERIFIED, `${name}: the verifier looked at ${verifiedInsns} instructions`);
      }
      const runner = new ProgramRunner(native, dataplane.program('vnic_ingress'), { maxInputBytes: 65_536 });
      const frames = PAYLOADS_BYTES.map((bytes) => packet().ethernet().ipv4().udp().payload(bytes).build());
      for (const frame of frames) runner.run(frame);
      const { rxPackets, rxBytes, parsed } = readCounters(dataplane);
      const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
      assert.deepEqual({ rxPackets, rxBytes, parsed }, { rxPackets: 4n, rxBytes: BigInt(bytes), parsed: 4n });
    },
  };
}

export const suite: Suite = {
  title: 'the programs on its kernel',
  machines: ['standard'],
  short: ['standard'],
  checks: [
    compilerCheck('clang-14'),
    compilerCheck('clang-19'),
    {
      title: 'every frame of the capture set is parsed as the reference parser does it',
      run({ native }) {
        using dataplane = loaded ?? Dataplane.create(native, size);
        const names = { azName: () => null, ruleId: () => null };
        // BPF_PROG_RUN takes frames from 14 bytes on and knows no other length on the wire.
        const cases = captureSet.filter(
          ({ frame, wireBytes }) => frame.length === wireBytes && frame.length >= 14 && frame.length <= 3520,
        );
        assert.ok(cases.length > 1000, `${cases.length} cases`);
        for (const { theme, name, frame, expect } of cases) {
          const answer = explainFrame(dataplane, frame, 'ingress', names);
          const text =
            answer.unparsed ??
            `${answer.src} ${answer.srcPort} > ${answer.dst} ${answer.dstPort} proto ${answer.proto}`;
          assert.equal(text, resultText(expect), `${theme}: ${name}`);
        }
      },
    },
  ],
};
