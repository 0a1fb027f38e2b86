// SPDX-License-Identifier: Apache-2.0
/** What a user's program can do with the REST API, through a client made from its document, on two devices. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { formatRule } from '../../src/steering/rules/format.ts';
import type { Rule as ValidRule } from '../../src/steering/rules/model.ts';
import { validateRules } from '../../src/steering/rules/validate.ts';
import {
  ApiCaller,
  EventFollower,
  etagOf,
  type GeneratedClient,
  generateClient,
  ok,
  refused,
} from '../support/api-client.ts';
import { CliRig } from '../support/cli.ts';
import { TestDaemon } from '../support/daemon.ts';
import { validRules } from '../support/valid-rules.ts';

type Rule = Parameters<GeneratedClient['replaceRules']>[1] extends infer Body
  ? Extract<Body, readonly unknown[]>[number]
  : never;

const QUEUES = 32;

/** Whether the device takes the rules: it has so many queues, and the dataplane so many shapes. */
function fits(rules: readonly ValidRule[]): boolean {
  try {
    validateRules(rules, { queues: QUEUES });
    return true;
  } catch {
    return false;
  }
}

describe('the API in use', function () {
  // Each operation waits for the machine's lock, which others may hold for a moment.
  this.timeout(240_000);
  let client: GeneratedClient;
  let rigs: CliRig[];
  let daemon: TestDaemon;
  let caller: ApiCaller;
  let device: string;
  let other: string;

  before(async () => {
    client = await generateClient();
    rigs = [new CliRig('use-a'), new CliRig('use-b')];
    daemon = await TestDaemon.start({ daemon: '  limits: {requests_per_second: 100000}' });
    caller = await ApiCaller.connect(daemon);
    caller.configure(client);
    [device, other] = rigs.map(({ guest }) => `vnic0@${guest}`) as [string, string];
  });
  after(async () => {
    for (const name of [device, other]) {
      await daemon?.send('DELETE', `/api/v1/devices/${name}?force=true`).catch(() => undefined);
    }
    await daemon?.[Symbol.asyncDispose]();
    for (const rig of rigs ?? []) rig[Symbol.dispose]();
  });

  const dns: Rule = { id: 1, priority: 10, match: { proto: 'udp', dstPort: 53 }, action: 'pass' };
  const web: Rule = { id: 2, priority: 20, match: { proto: 'tcp', dstPort: '80-443' }, action: 'drop' };

  /** The set as it is exported. */
  async function exported(accept: string): Promise<string> {
    const listRules = caller.conformance.operation('listRules');
    return (await caller.call(listRules, { device }, { headers: { accept } })).text;
  }

  async function tag(): Promise<string> {
    return etagOf(await ok(client.listRules(device)));
  }

  /** Runs what must leave the rule set as it was. */
  async function unchanged(action: () => Promise<unknown>): Promise<void> {
    const before = [await tag(), await exported('application/x-ndjson')];
    await action();
    assert.deepEqual([await tag(), await exported('application/x-ndjson')], before);
  }

  describe('devices', () => {
    it('a dry run of attaching says what would be done and does nothing', async () => {
      const answer = await ok(client.attachDevice({ name: 'vnic0', netns: rigs[0]!.guest }, { dryRun: 'true' }));
      assert.deepEqual([answer.status, answer.data.performed], [200, false]);
      assert.ok(answer.data.actions.length > 5);
      assert.deepEqual(rigs[0]!.traces(), []);
    });
    it('attaching makes a resource at the place that Location names, once', async () => {
      for (const rig of rigs) {
        const attach = { name: 'vnic0', netns: rig.guest };
        const answer = await ok(client.attachDevice(attach));
        assert.equal(answer.status, 201);
        const location = answer.headers.get('location');
        assert.equal(location, `/api/v1/devices/${encodeURIComponent(`vnic0@${rig.guest}`)}`);
        const { text } = await caller.send('GET', location);
        assert.equal((JSON.parse(text) as { queues: number }).queues, QUEUES);
        await refused(client.attachDevice(attach), 409, 'conflict');
        await refused(client.attachDevice(attach, { dryRun: 'true' }), 409, 'conflict');
      }
    });
    it('doctor and apply say that nothing is wrong, apply mends what is', async () => {
      assert.notEqual((await ok(client.diagnoseDevice(device))).data.verdict, 'blocked');
      assert.deepEqual((await ok(client.mendDevice(device))).data.drift, []);
      const cpus = path.join(rigs[0]!.pinFolder, 'vnic_cpus');
      execFileSync('bpftool', ['map', 'delete', 'pinned', cpus, 'key', '0', '0', '0', '0']);
      const { drift } = (await ok(client.getDevice(device))).data;
      assert.deepEqual(
        drift.map(({ what }) => what),
        ['CPUMAP'],
      );
      assert.equal((await ok(client.mendDevice(device, { dryRun: 'true' }))).data.performed, false);
      assert.equal((await ok(client.getDevice(device))).data.drift.length, 1);
      assert.equal((await ok(client.mendDevice(device))).data.actions.length, 1);
      assert.deepEqual((await ok(client.getDevice(device))).data.drift, []);
    });
  });

  describe('rule sets', () => {
    it('are replaced as a whole or not at all, and every bad rule is named', async () => {
      await ok(client.replaceRules(device, [dns, web]));
      await unchanged(async () => {
        const bad = [
          { ...dns, priority: 11 },
          { ...web, action: 'explode' },
          { id: 3, action: 'pass', match: { src: '10.0.0.0/33' } },
          { id: 4, action: 'pass', queues: [QUEUES] },
        ] as Rule[];
        const problem = await refused(client.replaceRules(device, bad), 422, 'invalid_rule');
        const paths = (problem['problems'] as { path: string }[]).map(({ path: at }) => at);
        assert.deepEqual(paths, ['rules[1].action', 'rules[2].match.src']);
        // What only the whole set shows is looked for in a set of valid rules.
        const beyond = await refused(client.replaceRules(device, [dns, bad[3]!]), 422, 'invalid_rule');
        assert.match((beyond['problems'] as { path: string }[])[0]!.path, /^rules\[1\]\.queues/);
        await refused(client.replaceRules(device, [dns, dns]), 422, 'invalid_rule');
      });
    });

    it('have an ETag that is another one exactly after a change', async () => {
      const first = etagOf(await ok(client.replaceRules(device, [dns, web])));
      assert.equal(etagOf(await ok(client.replaceRules(device, [dns, web]))), first);
      assert.equal(await tag(), first);
      rigs[0]!.send({ fromPort: 4000, toPort: 53, packets: 3, bytes: 10 });
      assert.equal(await tag(), first, 'counters are no change');
      assert.equal(etagOf(await ok(client.replaceRules(device, [dns], { dryRun: 'true' }))), first);
      const one = etagOf(await ok(client.getRule(device, 1)));
      const tags = [first];
      tags.push(etagOf(await ok(client.replaceRules(device, [dns]))));
      tags.push(etagOf(await ok(client.patchRules(device, { add: [web] }))));
      await ok(client.putRule(device, 2, { ...web, priority: 21 }));
      tags.push(await tag());
      await ok(client.deleteRule(device, 2));
      tags.push(await tag());
      await ok(client.applyQos(device, { flow_id: 1, rate: 1000 }));
      tags.push(await tag());
      assert.equal(new Set(tags).size, tags.length, tags.join(' '));
      assert.notEqual(etagOf(await ok(client.getRule(device, 1))), one);
      await ok(client.putRule(device, 2, web));
      const before = etagOf(await ok(client.getRule(device, 1)));
      await ok(client.deleteRule(device, 2));
      assert.equal(etagOf(await ok(client.getRule(device, 1))), before, 'a rule has a tag of its own');
    });

    it('are changed only from what the client has seen', async () => {
      const seen = etagOf(await ok(client.replaceRules(device, [dns, web])));
      const now = etagOf(await ok(client.patchRules(device, { delete: [2] }, {}, { headers: { 'if-match': seen } })));
      await unchanged(async () => {
        const stale = { headers: { 'if-match': seen } };
        const problem = await refused(client.replaceRules(device, [], {}, stale), 412, 'precondition_failed');
        assert.equal(problem['etag'], now);
        await refused(client.patchRules(device, { delete: [1] }, {}, stale), 412, 'precondition_failed');
        await refused(client.applyQos(device, { flow_id: 1, rate: 7 }, {}, stale), 412, 'precondition_failed');
        await refused(client.deleteRule(device, 1, {}, stale), 412, 'precondition_failed');
        const once = { headers: { 'if-none-match': '*' } };
        await refused(client.putRule(device, 1, { ...dns, priority: 5 }, {}, once), 412, 'precondition_failed');
      });
      const rule = { headers: { 'if-match': etagOf(await ok(client.getRule(device, 1))) } };
      await refused(client.putRule(device, 9, { ...dns, id: 9 }, {}, rule), 412, 'precondition_failed');
      assert.equal((await ok(client.putRule(device, 1, { ...dns, priority: 5 }, {}, rule))).status, 200);
      await refused(client.putRule(device, 1, dns, {}, rule), 412, 'precondition_failed');
      const made = await ok(client.putRule(device, 2, web, {}, { headers: { 'if-none-match': '*' } }));
      assert.equal(made.status, 201);
      await ok(client.deleteRule(device, 2, {}, { headers: { 'if-match': etagOf(made) } }));
    });

    it('show in a dry run what would change, and stay', async () => {
      await ok(client.replaceRules(device, [dns, web]));
      const next = [
        { ...web, action: 'pass' as const },
        { ...dns, id: 3 },
      ];
      await unchanged(async () => {
        const { data } = await ok(client.replaceRules(device, next, { dryRun: 'true' }));
        assert.deepEqual(
          [data.added, data.changed, data.removed, data.unchanged, data.performed],
          [[3], [2], [1], 0, false],
        );
        assert.equal((await ok(client.putRule(device, 9, { ...dns, id: 9 }, { dryRun: 'true' }))).status, 200);
        await ok(client.deleteRule(device, 1, { dryRun: 'true' }));
        await ok(client.patchRules(device, { delete: [1, 2] }, { dryRun: 'true' }));
        await ok(client.applyQos(device, { flow_id: 1, rate: 5 }, { dryRun: 'true' }));
      });
      const { data } = await ok(client.replaceRules(device, next));
      assert.deepEqual([data.added, data.changed, data.removed, data.performed], [[3], [2], [1], true]);
    });

    it('take patches whole, and none that contradicts what is there', async () => {
      await ok(client.replaceRules(device, [dns, web]));
      const third = { ...dns, id: 3, priority: 30 };
      await unchanged(async () => {
        await refused(client.patchRules(device, { add: [third, dns] }), 409, 'conflict');
        await refused(client.patchRules(device, { set: [third], replace: [{ ...third, id: 4 }] }), 404, 'not_found');
        await refused(client.patchRules(device, { add: [third], delete: [99] }), 404, 'not_found');
        await refused(client.patchRules(device, { set: [third], delete: [3] }), 404, 'not_found');
        await refused(client.patchRules(device, { set: [dns], delete: [1] }), 400, 'usage');
        await refused(client.putRule(device, 1, { ...dns, id: 2 }), 400, 'usage');
      });
      const patch = { add: [third], replace: [{ ...web, priority: 21 }], delete: [1] };
      const { data } = await ok(client.patchRules(device, patch));
      assert.deepEqual([data.added, data.changed, data.removed], [[3], [2], [1]]);
    });

    it('come back as they were exported, as YAML and as JSON lines', async () => {
      const sets = fc.uniqueArray(validRules(), { maxLength: 6, selector: ({ id }) => id }).filter(fits);
      const replaceRules = caller.conformance.operation('replaceRules');
      await fc.assert(
        fc.asyncProperty(sets, fc.constantFrom('application/yaml', 'application/x-ndjson'), async (rules, type) => {
          const asked = rules.map((rule) => formatRule(rule) as Rule);
          await ok(client.replaceRules(device, asked));
          const before = await tag();
          const text = await exported(type);
          if (rules.length === 0) return;
          const { text: answer } = await caller.call(
            replaceRules,
            { device },
            { body: text, headers: { 'content-type': type } },
          );
          const { added, changed, removed, unchanged: same } = JSON.parse(answer) as Record<string, unknown[]>;
          assert.deepEqual([added, changed, removed, same], [[], [], [], rules.length]);
          assert.equal(await tag(), before);
          await ok(client.replaceRules(device, []));
          await caller.call(replaceRules, { device }, { body: text, headers: { 'content-type': type } });
          assert.equal(await exported(type), text);
        }),
        // Smaller counterexamples would be looked for with hundreds of requests.
        { numRuns: 8, endOnFailure: true },
      );
    });

    it('are listed page by page, each rule once, while others come and go', async () => {
      const lasting = Array.from({ length: 45 }, (_, index): Rule => {
        return {
          id: 100 + index,
          priority: 1000 - 2 * index,
          match: { proto: 'udp', dstPort: 1000 + index },
          action: 'pass',
        };
      });
      await ok(client.replaceRules(device, lasting));
      const seen: number[] = [];
      let cursor: string | null = null;
      let round = 0;
      do {
        const query: { limit: number; cursor?: string } = cursor === null ? { limit: 7 } : { limit: 7, cursor };
        const page: { items: { id: number }[]; next: string | null } = (await ok(client.listRules(device, query))).data;
        seen.push(...page.items.map(({ id }) => id).filter((id) => id < 1000));
        cursor = page.next;
        // Before and behind the place that the cursor names; the one that it names goes as well.
        const passing = [9999, 1000 - 14 * round, 1].map((priority, index): Rule => {
          return {
            id: 1000 + 10 * round + index,
            priority,
            match: { proto: 'tcp', dstPort: priority },
            action: 'drop',
          };
        });
        const gone = page.items.map(({ id }) => id).filter((id) => id >= 1000);
        await ok(client.patchRules(device, { add: passing, delete: gone }));
        round++;
      } while (cursor !== null && round < 40);
      assert.deepEqual(
        seen,
        lasting.map(({ id }) => id),
      );
      await refused(client.listRules(device, { cursor: 'bm9uc2Vuc2U' }), 400, 'usage');
    });

    it('warn of rules that are twice there, or that no packet reaches', async () => {
      const { data } = await ok(
        client.replaceRules(device, [
          dns,
          { ...dns, id: 2, action: 'drop' },
          { id: 3, priority: 99, match: { proto: 'tcp' }, action: 'pass' },
          { ...web, id: 4 },
          { id: 5, match: { proto: 'icmpv6', src: '10.0.0.0/8' }, action: 'drop' },
        ]),
      );
      const warnings = (data.warnings as { code: string; ruleIds?: number[] }[]).map(({ code, ruleIds }) => [
        code,
        ruleIds,
      ]);
      assert.deepEqual(
        warnings.toSorted(([a], [b]) => String(a).localeCompare(String(b))),
        [
          ['duplicate_match', [2, 1]],
          ['unreachable_rule', [4, 3]],
          ['wrong_icmp', [5]],
        ],
      );
    });

    it("keep a rule's counters through every change but that of its match", async () => {
      await ok(client.replaceRules(device, [{ ...dns, match: { proto: 'udp', dstPort: 5001 } }]));
      const counters = async () => (await ok(client.getRule(device, 1))).data.counters;
      const before = await counters();
      rigs[0]!.send({ fromPort: 4100, toPort: 5001, packets: 50, bytes: 100 });
      const after = await counters();
      assert.equal(after.packets - before.packets, 50);
      const match = { proto: 'udp', dstPort: 5001 };
      await ok(client.putRule(device, 1, { id: 1, priority: 77, match, action: 'pass', queues: [3] }));
      await ok(client.patchRules(device, { add: [web] }));
      await ok(client.replaceRules(device, [{ id: 1, priority: 1, match, action: 'drop' }]));
      assert.deepEqual(await counters(), after);
      rigs[0]!.send({ fromPort: 4100, toPort: 5001, packets: 20, bytes: 100 });
      const dropped = await counters();
      assert.deepEqual([dropped.packets - after.packets, dropped.droppedPackets - after.droppedPackets], [20, 20]);
    });

    it('take the rates of a QoS agent line by line, all or none', async () => {
      await ok(client.replaceRules(device, [dns, { ...web, action: 'pass' }]));
      const applyQos = caller.conformance.operation('applyQos');
      const send = async (body: string) => {
        const reply = await caller.call(
          applyQos,
          { device },
          { body, headers: { 'content-type': 'application/x-ndjson' } },
        );
        return { status: reply.status, headers: reply.headers, data: JSON.parse(reply.text) as unknown };
      };
      await unchanged(async () => {
        const problem = await refused(send('{"flow_id":1,"rate":5}\n{"flow_id":1,"rate":-5}\n'), 422, 'invalid_rule');
        assert.equal(problem['line'], 2);
        await refused(send('{"flow_id":1,"rate":5}\n{"flow_id":99,"rate":5}\n'), 404, 'not_found');
      });
      const { data } = await ok(
        send('{"flow_id":1,"rate":5}\n{"flow_id":2,"rate":20000}\n{"flow_id":1,"rate":1000}\n'),
      );
      assert.deepEqual((data as { changed: number[] }).changed, [1, 2]);
      const { items } = (await ok(client.listRules(device))).data;
      assert.deepEqual(
        items.map(({ id, limit }) => [id, limit?.rate]),
        [
          [2, '20mbit'],
          [1, '1mbit'],
        ],
      );
    });
  });

  describe('AZs', () => {
    const azs = [
      { name: 'az-a', queues: '0-15', prefixes: ['10.9.0.0/16'] },
      { name: 'az-b', queues: '16-31', prefixes: ['10.8.0.0/16'] },
    ];

    it('fail as the plan says, with exactly their own buckets, and recover', async () => {
      await ok(client.replaceAzs(device, azs));
      const healthy = (await ok(client.getTable(device))).data;
      const plan = (await ok(client.planFailure(device, { az: 'az-a' }))).data;
      assert.ok(plan.moves.length > 0 && plan.moves.every(({ from }) => from !== null && from < 16));
      const dry = (await ok(client.failAz(device, 'az-a', {}, { dryRun: 'true' }))).data;
      assert.deepEqual([dry.moved, dry.performed, dry.commitNs], [plan.moved, false, null]);
      assert.deepEqual((await ok(client.getTable(device))).data, healthy);

      const { data: failed } = await ok(client.failAz(device, 'az-a'));
      assert.deepEqual([failed.moved, failed.collateral, failed.performed], [plan.moved, 0, true]);
      const table = (await ok(client.getTable(device))).data;
      assert.ok(table.rows.every(({ queues }) => queues.every((queue) => queue !== null && queue >= 16)));
      const az = (await ok(client.getAz(device, 'az-a'))).data;
      assert.deepEqual([az.state, az.cause], ['failed', 'manual']);
      await refused(client.failAz(device, 'az-a'), 409, 'conflict');
      await refused(client.planFailure(device, { az: 'az-b' }), 409, 'policy_refused');
      await refused(client.failAz(device, 'az-b'), 409, 'policy_refused');

      await ok(client.recoverAz(device, 'az-a'));
      assert.deepEqual((await ok(client.getTable(device))).data.rows, healthy.rows);
      await refused(client.recoverAz(device, 'az-a'), 409, 'conflict');
      assert.equal((await ok(client.getAz(device, 'az-a'))).data.state, 'up');
    });

    it('are made, changed and deleted one by one, and stay failed when all are replaced', async () => {
      await refused(client.putAz(device, 'az-c', { queues: '28-31' }), 422, 'invalid_config');
      await ok(client.putAz(device, 'az-b', { ...azs[1]!, queues: '16-27' }));
      await ok(client.putAz(device, 'az-c', { queues: '28-31' }));
      assert.deepEqual(
        (await ok(client.listAzs(device))).data.items.map(({ name }) => name),
        ['az-a', 'az-b', 'az-c'],
      );
      await ok(client.failAz(device, 'az-c'));
      await ok(client.replaceAzs(device, [azs[0]!, { name: 'az-c', queues: '28-31' }]));
      assert.deepEqual(
        (await ok(client.listAzs(device))).data.items.map(({ name, state }) => [name, state]),
        [
          ['az-a', 'up'],
          ['az-c', 'failed'],
        ],
      );
      const plan = (await ok(client.deleteAz(device, 'az-c', { dryRun: 'true' }))).data;
      assert.deepEqual([(await ok(client.deleteAz(device, 'az-c'))).data.moved, plan.performed], [plan.moved, false]);
      await refused(client.getAz(device, 'az-c'), 404, 'not_found');
      await refused(client.putAz(device, 'az-d', { name: 'az-e', queues: '20' }), 400, 'usage');
    });
  });

  describe('the dataplane', () => {
    it('is explained, and does with a packet what was said', async () => {
      await ok(client.replaceAzs(device, []));
      const queue = { id: 1, match: { proto: 'udp', dstPort: 6001 }, action: 'pass' as const, queues: [21] };
      await ok(client.replaceRules(device, [queue]));
      const packet = { src: '10.9.0.2', dst: '10.9.0.1', srcPort: 4200, dstPort: 6001, proto: 'udp' };
      const { data: said } = await ok(client.explainPacket(device, packet));
      assert.deepEqual([said.rule, said.queue, said.verdict, said.flowKnown], [1, 21, 'pass', false]);
      const steered = async () => (await ok(client.listQueues(device))).data.items[21]!.steeredPackets;
      const before = await steered();
      rigs[0]!.send({ fromPort: 4200, toPort: 6001, packets: 40, bytes: 64 });
      assert.equal((await steered()) - before, 40);
      const flows = (await ok(client.listFlows(device, { by: 'packets', top: 100 }))).data.items;
      const flow = flows.find(({ srcPort }) => srcPort === 4200);
      assert.deepEqual([flow?.packets, flow?.queue, flow?.rule], [40, 21, 1]);
      assert.equal((await ok(client.listFlows(device, { top: 1 }))).data.items.length, 1);
      assert.equal((await ok(client.explainPacket(device, packet))).data.flowKnown, true);
      await refused(client.explainPacket(device, { ...packet, dst: 'fd00::1' }), 400, 'usage');
      await refused(client.explainPacket(device, { ...packet, proto: 'icmp' }), 400, 'usage');
    });
  });

  describe('events', () => {
    it('tell of every change in order, and go on where a follower was cut off', async () => {
      const told: string[] = [];
      let second: string;
      {
        await using follower = await EventFollower.open(caller, daemon);
        await ok(client.replaceRules(device, [dns]));
        await ok(client.replaceRules(device, [dns]));
        await ok(client.replaceRules(device, [web], { dryRun: 'true' }));
        await ok(client.putRule(device, 2, web));
        await ok(client.putAz(device, 'az-a', { name: 'az-a', queues: '0-15' }));
        const events = await follower.of(device, 3);
        assert.deepEqual(
          events.map(({ type }) => type),
          ['rules.changed', 'rules.changed', 'az.set'],
        );
        assert.equal(events[1]!.data['etag'], await tag());
        second = events[1]!.id;
        told.push(...events.map(({ id }) => id));
      }
      await ok(client.failAz(device, 'az-a'));
      await ok(client.recoverAz(device, 'az-a'));
      await using follower = await EventFollower.open(caller, daemon, { 'last-event-id': second });
      await ok(client.deleteAz(device, 'az-a'));
      const events = await follower.of(device, 4);
      assert.deepEqual(
        events.map(({ type }) => type),
        ['az.set', 'az.failed', 'az.recovered', 'az.deleted'],
      );
      assert.equal(events[0]!.id, told[2]);
      const numbers = [...told.slice(0, 2), ...events.map(({ id }) => id)].map((id) => Number(id.split('.')[1]));
      assert.deepEqual(
        numbers,
        [...new Set(numbers)].sort((a, b) => a - b),
      );
    });
  });

  describe('two devices', () => {
    it('have rules, ETags and metrics of their own', async () => {
      await ok(client.replaceRules(device, [dns]));
      const before = await tag();
      await ok(client.replaceRules(other, [web]));
      assert.equal(await tag(), before);
      assert.notEqual(etagOf(await ok(client.listRules(other))), before);
      assert.deepEqual(
        (await ok(client.listRules(other))).data.items.map(({ id }) => id),
        [2],
      );
      await refused(client.getRule(other, 1), 404, 'not_found');

      const received = async (): Promise<number[]> => {
        const { metrics } = (await ok(client.getMetrics())).data;
        const { series } = metrics.find(({ name }) => name === 'virtio_nic_rx_packets_total')!;
        return [device, other].map((name) => {
          const own = series.filter(({ labels }) => labels['device'] === name);
          assert.ok(own.length > 0, `no metrics of ${name}`);
          return own.reduce((sum, { value }) => sum + Number(value), 0);
        });
      };
      const [a = 0, b = 0] = await received();
      rigs[1]!.send({ fromPort: 4300, toPort: 7000, packets: 60, bytes: 100 });
      let [laterA, laterB = 0] = await received();
      // While the engine is busy a scrape has the samples before.
      for (let tries = 0; laterB < b + 60 && tries < 100; tries++) {
        await sleep(50);
        [laterA, laterB = 0] = await received();
      }
      assert.equal(laterA, a);
      assert.ok(laterB >= b + 60, `${laterB - b} of 60 packets counted`);
      const text = (await ok(client.getMetricsText())).data;
      for (const name of [device, other]) assert.ok(text.includes(`device="${name}"`), `no metrics of ${name}`);
    });

    it('detaching one leaves the other', async () => {
      const dry = (await ok(client.detachDevice(device, { dryRun: 'true' }))).data;
      assert.equal(dry.detached, false);
      assert.deepEqual((await ok(client.detachDevice(device))).data.pins, dry.pins);
      assert.deepEqual(rigs[0]!.traces(), []);
      await refused(client.detachDevice(device), 404, 'not_found');
      assert.deepEqual(
        (await ok(client.listRules(other))).data.items.map(({ id }) => id),
        [2],
      );
      assert.deepEqual((await ok(client.getDevice(other))).data.drift, []);
      const names = (await ok(client.listDevices())).data.items.map((item) => item.device);
      assert.deepEqual([names.includes(device), names.includes(other)], [false, true]);
      assert.ok(!(await ok(client.getMetricsText())).data.includes(`device="${device}"`));
    });
  });
});
