// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { CliRig } from '../support/cli.ts';

interface Changes {
  added: number[];
  changed: number[];
  removed: number[];
  unchanged: number;
  performed: boolean;
  warnings: { code: string }[];
}

interface RuleRow {
  id: number;
  action: string;
  priority: number;
  match: Record<string, unknown>;
  limit?: { rate: string; burst: string; scope: string };
  queues?: number[];
  shadow: boolean;
  counters: { packets: number };
}

describe('vnicctl rule, limit and qos', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let rig: CliRig;

  before(() => {
    rig = new CliRig('rules');
    rig.ok(['attach', 'vnic0', '--max-rules', '20000']);
  });
  beforeEach(() => {
    rig.ok(['rule', 'import', '-'], { stdin: '[]' });
  });
  after(() => {
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  const ids = (): number[] => rig.json<RuleRow[]>(['rule', 'list']).map(({ id }) => id);

  it('adds by options, and the rule is there for the next command', () => {
    const added = rig.json<Changes>(
      'rule add --id 7 --priority 100 --src 10.1.0.0/16 --proto udp --dport 53 --rate 10mbit --scope flow --queues 3,4 --shadow'.split(
        ' ',
      ),
    );
    assert.deepEqual([added.added, added.performed, added.warnings], [[7], true, []]);
    const { counters, ...rule } = rig.json<RuleRow>(['rule', 'get', '7']);
    assert.equal(counters.packets, 0);
    assert.deepEqual(rule, {
      id: 7,
      priority: 100,
      direction: 'ingress',
      match: { src: '10.1.0.0/16', proto: 'udp', dstPort: 53 },
      action: 'pass',
      limit: { rate: '10mbit', burst: '16kb', scope: 'flow', mode: 'police' },
      queues: [3, 4],
      shadow: true,
    });
    assert.match(
      rig.ok(['rule', 'list', 'vnic0']),
      / 7 +100 +in +udp from 10\.1\.0\.0\/16 to port 53 +pass \(shadow\) +10mbit burst 16kb per flow +3-4 /,
    );
  });

  it('adds from a file or from stdin, all or nothing', () => {
    const file = path.join(rig.folder, 'two.yaml');
    writeFileSync(file, '- {id: 1, action: drop, match: {proto: udp, dstPort: 1000}}\n- {id: 2, action: pass}\n');
    assert.deepEqual(rig.json<Changes>(['rule', 'add', '-f', file]).added, [1, 2]);
    const clash = rig.refused(6, ['rule', 'add', '-f', '-'], {
      stdin: '[{"id":3,"action":"pass"},{"id":2,"action":"drop"}]',
    });
    assert.equal(clash.problem.code, 'conflict');
    assert.match(clash.problem.remedy ?? '', /rule replace 2/);
    assert.deepEqual(ids(), [1, 2]);
    assert.equal(rig.refused(2, ['rule', 'add', '-f', file, '--src', '10.0.0.1']).problem.code, 'usage');
    assert.equal(rig.refused(4, ['rule', 'add', '-f', '/nosuch']).problem.code, 'not_found');
  });

  it('refuses what is not valid with exit 2 and the field, and changes nothing', () => {
    for (const [args, text] of [
      ['--id 1 --src 10.0.0.0/99', /match\.src/],
      ['--id 0', /id: 0 is not a whole number/],
      ['--id 1 --dport 53', /dstPort cannot match: no proto/],
      ['--id 1 --rate 10parsec', /limit\.rate/],
      ['--id 1 --queues 40', /names queue 40, but the device has 32/],
      ['', /id: is missing/],
    ] as const) {
      const { lines } = rig.refused(2, ['rule', 'add', ...args.split(' ').filter(Boolean)]);
      assert.match(lines[0] ?? '', text);
    }
    assert.deepEqual(ids(), []);
  });

  it('exit 4 for rules that are not there', () => {
    rig.ok(['rule', 'add', '--id', '5']);
    for (const args of ['get 9', 'delete 9', 'delete 5 9', 'replace 9 --action drop']) {
      const { problem } = rig.refused(4, ['rule', ...args.split(' ')]);
      assert.equal(problem.code, 'not_found');
      assert.equal(problem['rule'], 9);
    }
    for (const args of ['set 9 --rate 1mbit', 'clear 9', 'clear 5']) rig.refused(4, ['limit', ...args.split(' ')]);
    assert.deepEqual(ids(), [5]);
  });

  it('deletes several, replaces one as a whole', () => {
    for (const id of [1, 2, 3]) rig.ok(['rule', 'add', '--id', String(id), '--src', `10.0.0.${id}`, '--rate', '1mbit']);
    assert.deepEqual(rig.json<Changes>(['rule', 'delete', '1', '3', '-d', 'vnic0']).removed, [1, 3]);
    assert.deepEqual(ids(), [2]);
    assert.deepEqual(rig.json<Changes>(['rule', 'replace', '2', '--action', 'drop', '--dst', '10.9.0.1']).changed, [2]);
    const rule = rig.json<RuleRow>(['rule', 'get', '2']);
    assert.deepEqual([rule.action, rule.match, rule.limit], ['drop', { dst: '10.9.0.1/32' }, undefined]);
    assert.equal(
      rig.refused(2, ['rule', 'replace', '2', '-f', '-'], { stdin: '{"id":3,"action":"drop"}' }).problem.code,
      'usage',
    );
  });

  it('imports a whole set, says with --dry-run what would change, and warns of rules without effect', () => {
    rig.ok(['rule', 'import', '-'], { stdin: '[{"id":1,"action":"drop"},{"id":2,"action":"pass","priority":9}]' });
    const next = ['{"id":2,"action":"drop","priority":9}', '{"id":3,"action":"pass"}', '{"id":4,"action":"pass"}'].join(
      '\n',
    );
    const preview = rig.run(['-o', 'json', '--dry-run', 'rule', 'import', '-'], { stdin: next });
    assert.equal(preview.code, 0, preview.stderr);
    const changes = JSON.parse(preview.stdout) as Changes;
    assert.deepEqual(
      [changes.added, changes.changed, changes.removed, changes.unchanged, changes.performed],
      [[3, 4], [2], [1], 0, false],
    );
    assert.match(preview.stderr, /^warning: rule 4 matches exactly what rule 2 matches/m);
    assert.deepEqual(ids(), [2, 1]);
    const text = rig.run(['rule', 'import', '-', 'vnic0'], { stdin: next });
    assert.match(text.stdout, /2 rules added \(3, 4\), 1 rule changed \(2\), 1 rule removed \(1\)/);
    assert.deepEqual(ids(), [2, 3, 4]);
  });

  it('refuses an import as a whole, with every problem', () => {
    rig.ok(['rule', 'add', '--id', '1']);
    const { problem } = rig.refused(2, ['rule', 'import', '-'], {
      stdin: '[{"id":1,"action":"drop"},{"id":2,"action":"eat"},{"id":3}]',
    });
    assert.deepEqual(
      (problem['problems'] as { path: string }[]).map(({ path: where }) => where),
      ['rules[1].action', 'rules[2].action'],
    );
    assert.equal(rig.json<RuleRow>(['rule', 'get', '1']).action, 'pass');
  });

  it('refuses more rules than the dataplane holds with exit 3, and more shapes', () => {
    const many = Array.from({ length: 20_001 }, (_, index) => `{"id":${index + 1},"action":"drop"}`).join('\n');
    assert.equal(rig.refused(3, ['rule', 'import', '-'], { stdin: many }).problem.code, 'capacity_exceeded');
    const shapes: string[] = [];
    for (let bits = 8; bits <= 32; bits++) {
      for (const proto of ['tcp', 'udp']) {
        for (const port of ['', ',"dstPort":5', ',"srcPort":5']) {
          shapes.push(
            `{"id":${shapes.length + 1},"action":"drop","match":{"src":"10.0.0.0/${bits}","proto":"${proto}"${port}}}`,
          );
        }
      }
    }
    for (let bits = 8; bits <= 32; bits++) {
      for (const port of ['', ',"dstPort":5', ',"srcPort":5']) {
        shapes.push(
          `{"id":${shapes.length + 1},"action":"drop","match":{"dst":"10.0.0.0/${bits}","proto":"tcp"${port}}}`,
        );
      }
    }
    assert.equal(rig.refused(3, ['rule', 'import', '-'], { stdin: shapes.join('\n') }).problem.code, 'too_many_shapes');
    assert.deepEqual(ids(), []);
  });

  it('carries 20,000 rules through import and export unchanged', () => {
    const rules = Array.from({ length: 20_000 }, (_, index) => ({
      id: index + 1,
      priority: index % 100,
      direction: 'ingress',
      match: { src: `10.${index >> 8}.${index & 255}.0/24`, proto: 'udp', dstPort: 1000 + (index % 7) },
      action: index % 3 === 0 ? 'drop' : 'pass',
      shadow: false,
    }));
    rig.ok(['rule', 'import', '-'], { stdin: JSON.stringify(rules) });
    for (const format of ['json', 'ndjson'] as const) {
      const text = rig.ok(['rule', 'export', '--format', format]);
      const back = rig.json<Changes>(['rule', 'import', '-'], { stdin: text });
      assert.deepEqual([back.unchanged, back.added, back.changed, back.removed], [20_000, [], [], []], format);
    }
    assert.deepEqual(JSON.parse(rig.ok(['rule', 'export'])), rules);
  });

  it('limits: set on a rule, made with a match, listed, cleared', () => {
    rig.ok('rule add --id 1 --src 10.0.0.1 --queues 5 --priority 3'.split(' '));
    rig.ok('limit set 1 --rate 20kpps --scope flow'.split(' '));
    rig.ok('limit set 2 vnic0 --rate 5mbit --burst 64kb --proto tcp --dport 80'.split(' '));
    const limits = rig.json<RuleRow[]>(['limit', 'list']);
    assert.deepEqual(
      limits.map(({ id, limit, queues }) => [id, limit?.rate, limit?.burst, limit?.scope, queues]),
      [
        [1, '20kpps', '200 pkts', 'flow', [5]],
        [2, '5mbit', '64kb', 'rule', undefined],
      ],
    );
    assert.match(rig.refused(2, ['limit', 'set', '1']).lines[0] ?? '', /needs a rate/);
    rig.ok(['limit', 'clear', '1', 'vnic0']);
    assert.deepEqual(
      rig.json<RuleRow[]>(['limit', 'list']).map(({ id }) => id),
      [2],
    );
    assert.deepEqual(ids(), [1, 2]);
  });

  it('qos: sets rates in kbit/s from lines, all or nothing', () => {
    rig.ok(['rule', 'import', '-'], {
      stdin: '[{"id":1,"action":"pass","limit":{"rate":"1mbit","scope":"flow"}},{"id":2,"action":"pass","priority":1}]',
    });
    const applied = rig.json<Changes>(['qos', 'apply', '-'], {
      stdin: '{"flow_id":1,"rate":10000}\n{"flow_id":2,"rate":500}\n',
    });
    assert.deepEqual(applied.changed, [1, 2]);
    const rates = (): unknown[] =>
      rig.json<RuleRow[]>(['rule', 'list']).map(({ id, limit }) => [id, limit?.rate, limit?.scope]);
    const expected = [
      [2, '500kbit', 'rule'],
      [1, '10mbit', 'flow'],
    ];
    assert.deepEqual(rates(), expected);
    rig.refused(4, ['qos', 'apply'], { stdin: '{"flow_id":1,"rate":20}\n{"flow_id":9,"rate":20}\n' });
    assert.match(
      rig.refused(2, ['qos', 'apply'], { stdin: '{"flow_id":1,"rate":20}\n{"rate":20}\n' }).lines[0] ?? '',
      /line 2/,
    );
    assert.deepEqual(rates(), expected);
  });
});
