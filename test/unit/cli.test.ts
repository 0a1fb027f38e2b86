// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { parseQosLines } from '../../src/api/rule-changes.ts';
import { requireCapabilities, requireObject } from '../../src/app/environment.ts';
import { commands } from '../../src/cli/commands.ts';
import { asVnicError, errorText } from '../../src/cli/errors.ts';
import { parseEndpoint } from '../../src/cli/explain.ts';
import { bar, bitRateText, bytesText, durationText, grouped, table, toJson } from '../../src/cli/output.ts';
import { ruleInput } from '../../src/cli/rule-options.ts';
import { loadConfig } from '../../src/config/config.ts';
import { formatRules, parseRuleText } from '../../src/config/rule-text.ts';
import { errorTable, VnicError } from '../../src/errors.ts';
import { compareRules } from '../../src/steering/rules/changes.ts';
import { formatRule } from '../../src/steering/rules/format.ts';
import { parseRule, parseRules } from '../../src/steering/rules/parse.ts';
import { formatAddress } from '../../src/steering/rules/prefix.ts';
import { thrownBy } from '../support/thrown.ts';

const root = path.join(import.meta.dirname, '../..');
const vnicctl = path.join(root, 'bin/vnicctl');

function run(command: string, ...args: string[]) {
  return spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } });
}

describe('the numbers that vnicctl prints', () => {
  it('are exact in JSON: u64 as numbers where those are exact, else as strings', () => {
    assert.deepEqual(JSON.parse(toJson({ a: 5n, b: 2n ** 53n - 1n, c: 2n ** 53n, d: 2n ** 64n - 1n, e: null })), {
      a: 5,
      b: 9007199254740991,
      c: '9007199254740992',
      d: '18446744073709551615',
      e: null,
    });
  });

  it('have units that suit them', () => {
    assert.equal(bytesText(0n), '0 B');
    assert.equal(bytesText(1023n), '1023 B');
    assert.equal(bytesText(1536n), '1.50 KiB');
    assert.equal(bytesText(2 ** 40), '1.00 TiB');
    assert.equal(bitRateText(10_000_000), '10.0 Mbit/s');
    assert.equal(durationText(850), '850 ns');
    assert.equal(durationText(1_500_000), '1.50 ms');
    assert.equal(grouped(1234567n), '1,234,567');
  });

  it('stand right-aligned in tables, text left-aligned, without a trailing blank', () => {
    const text = table(
      [
        { name: 'a', packets: 5n },
        { name: 'long', packets: 1_000_000n },
      ],
      [
        { title: 'NAME', value: (row) => row.name },
        { title: 'PACKETS', value: (row) => row.packets },
      ],
    );
    const plain = stripVTControlCharacters(text);
    assert.deepEqual(plain.split('\n'), ['NAME    PACKETS', 'a             5', 'long  1,000,000']);
  });

  it('are drawn as bars: nothing for 0, something for little, full for all', () => {
    assert.equal(bar(0, 8), '');
    assert.equal(bar(0.0001, 8), '▏');
    assert.equal(bar(0.5, 8), '████');
    assert.equal(bar(1, 8), '████████');
    assert.equal(bar(7, 8), '████████');
  });
});

describe("vnicctl's errors", () => {
  it('are one line that says what is wrong and one that says what to do', () => {
    const error = new VnicError('conflict', 'It is\n there.', { remedy: 'Go\naway.', details: { log: 'long' } });
    assert.equal(errorText(error, { json: false, verbose: false }), 'vnicctl: It is there.\n  Go away.\n');
    assert.match(
      errorText(error, { json: false, verbose: true }),
      /^vnicctl: It is there.\n {2}Go away.\nlong\nVnicError/,
    );
  });

  it('are RFC 9457 problems with -o json, the verifier log only with --verbose', () => {
    const error = new VnicError('verifier_rejected', 'No.', {
      details: { log: 'R1 invalid', errno: 'EACCES', id: 5n },
    });
    const problem = JSON.parse(errorText(error, { json: true, verbose: false })) as Record<string, unknown>;
    assert.deepEqual(problem, {
      type: 'urn:vnic:error:verifier_rejected',
      title: errorTable.verifier_rejected.meaning,
      status: 500,
      detail: 'No.',
      code: 'verifier_rejected',
      errno: 'EACCES',
      id: '5',
    });
    assert.match(errorText(error, { json: true, verbose: true }), /R1 invalid/);
  });

  it('name a file that may not be used, and what was not expected', () => {
    const denied = Object.assign(new Error('EACCES'), { code: 'EACCES', syscall: 'open', path: '/run/vnic' });
    const permission = asVnicError(denied, 'vnicctl');
    assert.equal(permission.exitCode, 5);
    assert.match(permission.message, /\/run\/vnic .*EACCES/);
    const unexpected = asVnicError(new TypeError('x is not a function\nat y'), 'vnicctl');
    assert.equal(unexpected.exitCode, 1);
    assert.equal(unexpected.message, 'Unexpected: x is not a function');
  });

  it('say which capabilities are missing', () => {
    const status = (capabilities: bigint): string =>
      `Name:\tnode\nCapEff:\t${capabilities.toString(16).padStart(16, '0')}\n`;
    requireCapabilities(status((1n << 12n) | (1n << 38n) | (1n << 39n)));
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    requireCapabilities(status((1n << 12n) | (1n << 21n)));
    assert.deepEqual(thrownBy(() => requireCapabilities(status(1n << 39n))).details['missing'], [
      'CAP_NET_ADMIN',
      'CAP_PERFMON',
    ]);
  });

  it('say how to build what is not built', () => {
    const error = thrownBy(() => requireObject('/nosuch/vnic.bpf.o'));
    assert.equal(error.exitCode, 1);
    assert.equal(error.remedy, 'Run: make build');
  });
});

describe('rule files', () => {
  const rules = parseRules([
    { id: 1, action: 'drop', match: { proto: 'udp', dstPort: '1000-2000' } },
    { id: 2, priority: 5, action: 'pass', limit: { rate: '10mbit' }, queues: [3, 4] },
  ]);

  for (const format of ['json', 'yaml', 'ndjson'] as const) {
    it(`come back the same as ${format}`, () => {
      const text = formatRules(rules.map(formatRule), format);
      assert.deepEqual(parseRules(parseRuleText(text, 'f')), rules);
    });
  }

  it('may hold one rule alone, or none', () => {
    assert.deepEqual(parseRuleText('{"id": 1,\n "action": "drop"}', 'f'), [{ id: 1, action: 'drop' }]);
    assert.deepEqual(parseRuleText('id: 1\naction: drop\n', 'f'), [{ id: 1, action: 'drop' }]);
    assert.deepEqual(parseRuleText('', 'f'), []);
    assert.deepEqual(parseRuleText('[]', 'f'), []);
  });

  it('are refused with the line that is wrong', () => {
    const error = thrownBy(() => parseRuleText('{"id":1}\n{"id":\n', 'f.ndjson'));
    assert.equal(error.code, 'invalid_rule');
    assert.match(error.message, /^f\.ndjson: line 2: not valid JSON/);
    assert.match(thrownBy(() => parseRuleText('[1,', 'f.json')).message, /^f\.json: not valid JSON/);
    assert.match(thrownBy(() => parseRuleText('a: [', 'f.yaml')).message, /^f\.yaml: not valid YAML/);
    assert.match(thrownBy(() => parseRuleText('hello', 'f.txt')).message, /no rules/);
  });

  it('are compared by what the rules mean', () => {
    const after = parseRules([
      {
        id: 2,
        priority: 5,
        direction: 'ingress',
        action: 'pass',
        limit: { rate: '10000kbit', scope: 'rule' },
        queues: [4, 3],
      },
      { id: 3, action: 'drop' },
    ]);
    assert.deepEqual(compareRules(rules, after), { added: [3], changed: [], removed: [1], unchanged: 1 });
    const changed = after.map((rule) => ({ ...rule, shadow: true }));
    assert.deepEqual(compareRules(after, changed).changed, [2, 3]);
  });
});

describe('rules by options', () => {
  it('mean what a file with the same fields means', () => {
    const options = {
      src: '10.1.0.0/16',
      proto: 'udp',
      dport: '53',
      rate: '10mbit',
      scope: 'flow',
      queues: '3-4',
      priority: 9,
    };
    assert.deepEqual(
      parseRule(ruleInput(7, options)),
      parseRule({
        id: 7,
        priority: 9,
        action: 'pass',
        match: { src: '10.1.0.0/16', proto: 'udp', dstPort: 53 },
        limit: { rate: '10mbit', scope: 'flow' },
        queues: [3, 4],
      }),
    );
  });

  it('are refused with the field named', () => {
    assert.match(thrownBy(() => parseRule(ruleInput('x', {}))).message, /id: "x" is not a whole number/);
    assert.match(thrownBy(() => parseRule(ruleInput(undefined, {}))).message, /id: is missing/);
    assert.match(thrownBy(() => parseRule(ruleInput(1, { sport: '5' }))).message, /srcPort cannot match/);
  });
});

describe('QoS lines', () => {
  it('set the last rate given for a rule, in kbit/s', () => {
    const rates = parseQosLines('{"flow_id":1,"rate":10000}\n\n{"flow_id":2,"rate":5}\n{"flow_id":1,"rate":20}\n');
    assert.deepEqual(
      [...rates],
      [
        [1, 20_000],
        [2, 5_000],
      ],
    );
  });

  it('are refused with their number', () => {
    assert.match(thrownBy(() => parseQosLines('{"flow_id":1,"rate":10000}\nrate')).message, /^line 2: /);
    assert.match(thrownBy(() => parseQosLines('{"flow_id":0,"rate":1}')).message, /^line 1: .*flow_id/);
  });
});

describe('endpoints of explain', () => {
  it('are addresses with or without a port, IPv6 in brackets with one', () => {
    const texts = ['10.1.0.5', '10.1.0.5:443', 'fd00:a::1', '[fd00:a::1]:443', '[fd00:a::1]'];
    assert.deepEqual(
      texts.map((text) => parseEndpoint(text)).map(({ address, port }) => [formatAddress(address), port]),
      [
        ['10.1.0.5', null],
        ['10.1.0.5', 443],
        ['fd00:a::1', null],
        ['fd00:a::1', 443],
        ['fd00:a::1', null],
      ],
    );
  });

  it('are usage errors otherwise', () => {
    for (const text of ['', 'host', '10.1.0.5:', '10.1.0.5:99999', '10.1.0.256:1', '[10.1.0.5', 'fd00::1%eth0']) {
      assert.equal(thrownBy(() => parseEndpoint(text)).code, 'usage', text);
    }
  });
});

describe('bin/vnicctl', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-bin-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('lists every command, and shows the help of each', () => {
    const help = run(vnicctl, '--help');
    assert.equal(help.status, 0);
    for (const { name } of commands) {
      assert.match(help.stdout, new RegExp(`^  ${name} `, 'm'));
      const inner = run(vnicctl, 'help', name);
      assert.equal(inner.status, 0, inner.stderr);
      assert.match(inner.stdout, new RegExp(`^Usage: vnicctl ${name} `));
    }
  }).timeout(180_000);

  it('runs through a symbolic link and from any folder', () => {
    const link = path.join(folder, 'vnicctl');
    symlinkSync(vnicctl, link);
    const result = spawnSync(link, ['--version'], { encoding: 'utf8', cwd: '/' });
    assert.equal(result.status, 0, result.stderr);
    assert.match(result.stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('says what to do where the dependencies are not installed', () => {
    mkdirSync(path.join(folder, 'bin'));
    cpSync(vnicctl, path.join(folder, 'bin/vnicctl'));
    const result = run(path.join(folder, 'bin/vnicctl'), '--help');
    assert.equal(result.status, 1);
    assert.match(result.stderr, /dependencies are not installed/);
    assert.match(result.stderr, /make -C \S+ build/);
  });

  it('checks a configuration without any right, and names every problem', () => {
    const good = path.join(folder, 'good.yaml');
    writeFileSync(
      good,
      'devices:\n  eth0:\n    num_queues: 4\n    azs: [{name: a, queues: 0-1}]\n    rules: [{id: 1, action: drop}]\n',
    );
    const valid = run(vnicctl, '-o', 'json', 'config', 'check', good);
    assert.equal(valid.status, 0, valid.stderr);
    assert.deepEqual(JSON.parse(valid.stdout), {
      file: good,
      valid: true,
      devices: [{ device: 'eth0', queues: 4, azs: 1, rules: 1, warnings: [] }],
    });

    const doubtful = path.join(folder, 'doubtful.yaml');
    writeFileSync(doubtful, 'devices: {eth0: {azs: [{name: a, queues: 0-1, silence_ms: 20}]}}\n');
    const warned = run(vnicctl, 'config', 'check', doubtful);
    assert.equal(warned.status, 0, warned.stderr);
    assert.match(warned.stderr, /warning: eth0: AZ a has silence_ms, but no prefixes/);

    const bad = path.join(folder, 'bad.yaml');
    writeFileSync(
      bad,
      'devices:\n  eth0:\n    num_queues: 400\n    failover: {deadman: {policy: flee}}\n    rules: [{id: 1, action: eat}, {id: 1, action: drop}]\n',
    );
    const invalid = run(vnicctl, 'config', 'check', bad, '-o', 'json');
    assert.equal(invalid.status, 2);
    const { problems } = JSON.parse(invalid.stdout) as { problems: { path: string }[] };
    assert.deepEqual(problems.map(({ path: where }) => where).sort(), [
      'devices.eth0.failover.deadman.policy',
      'devices.eth0.num_queues',
      'devices.eth0.rules[0].action',
    ]);
    assert.equal((JSON.parse(invalid.stderr) as { code: string }).code, 'invalid_config');
    assert.equal(run(vnicctl, 'config', 'check', path.join(folder, 'nosuch.yaml')).status, 4);
  });

  it('makes a token, of which the configuration keeps the hash only', () => {
    const made = run(vnicctl, '-o', 'json', 'token', '--name', 'scraper', '--scope', 'write');
    assert.equal(made.status, 0, made.stderr);
    const { token, ...config } = JSON.parse(made.stdout) as Record<'token' | 'name' | 'sha256' | 'scope', string>;
    assert.match(token, /^vnic_[A-Za-z0-9_-]{43}$/);
    assert.deepEqual(config, {
      name: 'scraper',
      sha256: createHash('sha256').update(token).digest('hex'),
      scope: 'write',
    });
    assert.doesNotMatch(run(vnicctl, '-o', 'json', 'token', '--name', 'scraper').stdout, new RegExp(token));
  });

  it('prints the lines for a token that a configuration takes, whatever its name looks like', () => {
    for (const name of ['scraper', '12', 'null']) {
      const made = run(vnicctl, 'token', '--name', name);
      assert.equal(made.status, 0, made.stderr);
      const [token = '', , ...lines] = made.stdout.trimEnd().split('\n');
      const sha256 = createHash('sha256').update(token).digest('hex');
      assert.deepEqual(loadConfig(lines.join('\n'), 'f.yaml').daemon.tokens, [{ name, sha256, scope: 'read' }]);
    }
    const refused = run(vnicctl, 'token', '--name', 'no such name');
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /tokens\[0\]\.name/);
  });

  it('ends quietly when its reader has seen enough', () => {
    const result = run('sh', '-c', `'${vnicctl}' --help | head -n 1`);
    assert.equal(result.stderr, '');
    assert.match(result.stdout, /^Usage/);
  });
});
