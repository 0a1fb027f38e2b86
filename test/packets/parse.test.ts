// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { VnicUnparsed } from '../../src/maps/generated/abi.ts';
import { unparsedReasons } from '../../src/telemetry/counters.ts';
import type { CaptureCase } from '../support/capture-set.ts';
import { captureSet } from '../support/capture-set.ts';
import { flowText, TestDataplane, XDP } from '../support/dataplane.ts';
import { packet } from '../support/packet.ts';
import { referenceParse, resultText } from '../support/reference-parser.ts';

/** BPF_PROG_RUN takes no shorter frames (ETH_HLEN, net/bpf/test_run.c). */
const shortestFrame = 14;
/** Of a frame in BPF_PROG_RUN, what stands in the first buffer: a 4 KiB page less headroom and tailroom. */
const firstBufferBytes = 4096 - 256 - 320;

/** What the program made of the one frame that it was given, as `resultText` says it, and the bytes that it counted. */
function outcome(dataplane: TestDataplane): { result: string; bytes: number; rxBytes: number } {
  const flows = [...dataplane.flows()];
  const { unparsed, parsed, rxPackets, rxBytes } = dataplane.counters();
  const reasons = Object.entries(unparsed);
  assert.equal(rxPackets, 1n);
  assert.equal(flows.length + reasons.length, 1, 'a frame is one flow or one reason');
  assert.equal(parsed, BigInt(flows.length));
  if (flows.length === 0) {
    assert.equal(reasons[0]?.[1], 1n);
    return { result: reasons[0]![0], bytes: Number(rxBytes), rxBytes: Number(rxBytes) };
  }
  const [result, { flow }] = flows[0]!;
  assert.equal(flow.packets, 1n);
  assert.equal(flow.key.direction, 0);
  return { result, bytes: Number(flow.bytes), rxBytes: Number(rxBytes) };
}

function titleOf({ theme, name }: CaptureCase): string {
  return `${theme}: ${name}`;
}

describe('parsing in the program', () => {
  const cases = captureSet.filter(({ frame }) => frame.length >= shortestFrame);
  const replay = new TestDataplane({ maxFlows: 8, replay: true });
  const live = new TestDataplane({ maxFlows: 8 });
  after(() => {
    replay.close();
    live.close();
  });

  it('knows every protocol and damage of the capture set as the reference parser does', () => {
    assert.ok(cases.length > 2000, `${cases.length} cases`);
    for (const example of cases) {
      replay.clear();
      assert.equal(replay.replay(example.frame, 1_000_000_000n, example.wireBytes), XDP.pass, titleOf(example));
      const expected = { result: resultText(example.expect), bytes: example.wireBytes, rxBytes: example.wireBytes };
      assert.deepEqual(outcome(replay), expected, titleOf(example));
    }
  });

  it('says on the wire what it says in a capture that holds whole frames', () => {
    const whole = cases.filter(({ frame, wireBytes }) => frame.length === wireBytes);
    assert.ok(whole.length > 1000, `${whole.length} cases`);
    for (const example of whole) {
      live.clear();
      assert.equal(live.ingress(example.frame), XDP.pass, titleOf(example));
      const { length } = example.frame;
      assert.deepEqual(
        outcome(live),
        { result: resultText(example.expect), bytes: length, rxBytes: length },
        titleOf(example),
      );
    }
  });

  it('agrees with the reference parser on frames with any byte changed', () => {
    // Each byte of the headers takes a few values that mean something somewhere.
    const values = [0, 1, 0x0f, 0x3c, 0x40, 0x45, 0x60, 0x81, 0xff];
    for (const example of cases.filter(({ wellFormed }) => wellFormed)) {
      for (let at = 12; at < Math.min(example.frame.length, 80); at++) {
        const frame = example.frame.slice();
        frame[at] = values[(at * 7 + example.frame.length) % values.length]!;
        live.clear();
        live.ingress(frame);
        const expected = resultText(referenceParse(frame));
        assert.equal(outcome(live).result, expected, `${titleOf(example)}, byte ${at} is ${frame[at]}`);
      }
    }
  });

  for (const frameBytes of [firstBufferBytes, firstBufferBytes + 1, 9014, 60_000]) {
    it(`counts a frame of ${frameBytes} bytes in full, in however many buffers it came`, () => {
      for (const start of [packet().ethernet().ipv4(), packet().ethernet().vlan(5).ipv6()]) {
        const udp = start.udp();
        const frame = udp.payload(frameBytes - udp.build().length).build();
        assert.equal(frame.length, frameBytes);
        live.clear();
        live.ingress(frame);
        const result = resultText(referenceParse(frame));
        assert.deepEqual(outcome(live), { result, bytes: frameBytes, rxBytes: frameBytes });
        assert.match(result, /40000 > .* 4000 proto 17/);
      }
    });
  }

  it('says headers_in_frags when headers reach beyond the first buffer', () => {
    const chain = packet().ethernet().ipv6().destination({ bytes: 2048 });
    const beyond = [
      // The second extension header, the transport header, and a transport header that straddles the edge.
      chain.destination({ bytes: 2048 }).udp().payload(8),
      chain
        .destination({ bytes: firstBufferBytes - 54 - 2048 - 2 })
        .udp()
        .payload(8),
      chain
        .destination({ bytes: firstBufferBytes - 54 - 2048 - 2 })
        .tcp()
        .payload(8),
    ];
    for (const builder of beyond) {
      const frame = builder.build();
      assert.ok(frame.length > firstBufferBytes);
      live.clear();
      assert.equal(live.ingress(frame), XDP.pass);
      assert.deepEqual(outcome(live).result, 'headers_in_frags');
    }
    const inside = chain.destination({ bytes: 1024 }).udp().payload(5000).build();
    live.clear();
    live.ingress(inside);
    assert.equal(outcome(live).result, resultText(referenceParse(inside)));
  });

  it('explains a frame with the parse that the live path makes', () => {
    for (const example of cases.filter(({ frame, wireBytes }) => frame.length === wireBytes)) {
      const answer = live.explain(example.frame);
      const said = answer.unparsed === VnicUnparsed.parsed ? flowText(answer.key) : unparsedReasons[answer.unparsed];
      assert.equal(said, resultText(example.expect), titleOf(example));
      assert.equal(answer.frameBytes, example.frame.length);
    }
  });
});
