// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import {
  CAPTURE_LEASE_MS,
  endAbandonedCapture,
  readCapture,
  startCapture,
  stopCapture,
} from '../../src/app/capture.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { thrownBy } from '../support/thrown.ts';

const request = { rule: null, azRow: null, snaplen: 64, count: null, packetsPerSecond: 100 };
const LEASE_NS = BigInt(CAPTURE_LEASE_MS) * 1_000_000n;
const nothing = { matched: 0n, captured: 0n, overAllowance: 0n, ringFull: 0n };

describe('a capture of which nobody asks for packets any more', () => {
  it('is ended after twice its lease, once, and whoever reads before goes on', () => {
    using test = new TestDataplane({ maxFlows: 64, maxRules: 4, queues: 4 });
    const { dataplane } = test;
    const start = 1_000_000_000_000n;
    const session = startCapture(dataplane, request, start);
    assert.equal(endAbandonedCapture(dataplane, start + LEASE_NS), null);
    const late = start + 2n * LEASE_NS - 1n;
    assert.equal(endAbandonedCapture(dataplane, late), null);
    assert.equal(readCapture(dataplane, session, late).wasInterrupted, true);
    assert.equal(endAbandonedCapture(dataplane, late + LEASE_NS), null);
    assert.deepEqual(endAbandonedCapture(dataplane, late + 2n * LEASE_NS), nothing);
    assert.equal(endAbandonedCapture(dataplane, late + 3n * LEASE_NS), null);
    assert.equal(thrownBy(() => readCapture(dataplane, session)).code, 'conflict');
  });

  it('is another one than that of whoever stops an earlier one', () => {
    using test = new TestDataplane({ maxFlows: 64, maxRules: 4, queues: 4 });
    const { dataplane } = test;
    assert.equal(stopCapture(dataplane, 0), null);
    const first = startCapture(dataplane, request);
    assert.deepEqual(stopCapture(dataplane, first), nothing);
    const second = startCapture(dataplane, request);
    assert.equal(stopCapture(dataplane, first), null);
    assert.deepEqual(stopCapture(dataplane, second), nothing);
  });
});
