// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { stringify as stringifyYaml } from 'yaml';
import { z } from 'zod';
import { azWarnings } from '../../src/config/az-warnings.ts';
import { parseAz, validateAzs } from '../../src/config/azs.ts';
import { formatConfig, loadConfig } from '../../src/config/config.ts';
import { formatDevice, isDeviceName, parseDevice } from '../../src/config/device.ts';
import { formatWholeFailover } from '../../src/config/failover.ts';
import { readConfigFile } from '../../src/config/file.ts';
import { formatQueueList, parseQueueList } from '../../src/config/queue-list.ts';
import { configSchema } from '../../src/config/schema.ts';
import type { VnicError } from '../../src/errors.ts';
import { failoverDefaults } from '../../src/steering/failover.ts';
import { parsePrefix } from '../../src/steering/rules/prefix.ts';
import type { Problem } from '../../src/steering/rules/problems.ts';
import { thrownBy } from '../support/thrown.ts';

const documented = `
devices:
  eth0:
    num_queues: 32            # a comment
    numa_node: -1
    coalesce_usecs: 64
    enable_zero_copy: true
    enable_numa_aware: true
    adaptive_coalesce: true
    adaptive_threshold: 1000
    rtt_sample: 32
    redirect: follow
    azs:
      - {name: az-a, queues: 0-10,  weight: 1, prefixes: [10.1.0.0/16, "fd00:a::/32"], probe: {type: tcp, target: "10.1.0.1:443", interval_ms: 100, fall: 3, rise: 5}, silence_ms: 20}
    rules:
      - {id: 7, priority: 100, match: {src: 10.1.0.0/16, dst: 0.0.0.0/0, proto: udp, srcPort: "1024-65535", dstPort: 53}, action: pass, limit: {rate: 10mbit, burst: 64kb, scope: flow}, queues: [3, 4], shadow: false}
`;

function problemsOf(device: unknown, name = 'eth0'): Problem[] {
  const error = thrownBy(() => loadConfig(JSON.stringify({ devices: { [name]: device } }), 'vnic.json'));
  assert.equal(error.code, 'invalid_config');
  const { problems } = error.details;
  return problems as Problem[];
}

function assertRefused(device: unknown, path: string, message: RegExp, remedy: RegExp): void {
  const problems = problemsOf(device);
  assert.equal(problems.length, 1, JSON.stringify(problems));
  assert.equal(problems[0]!.path, `devices.eth0${path}`);
  assert.match(problems[0]!.message, message);
  assert.match(problems[0]!.remedy, remedy);
}

describe('a configuration', () => {
  it('is read with every documented field', () => {
    const [device, ...others] = loadConfig(documented, 'vnic.yaml').devices;
    assert.equal(others.length, 0);
    const { rules, ...rest } = device!;
    assert.deepEqual(rest, {
      name: 'eth0',
      numQueues: 32,
      numaNode: -1,
      coalesceUsecs: 64,
      enableZeroCopy: true,
      enableNumaAware: true,
      adaptiveCoalesce: true,
      adaptiveThreshold: 1000,
      rttSample: 32,
      redirect: 'follow',
      failover: failoverDefaults,
      azs: [
        {
          name: 'az-a',
          queues: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
          weight: 1,
          prefixes: [parsePrefix('10.1.0.0/16'), parsePrefix('fd00:a::/32')],
          probe: {
            type: 'tcp',
            targets: [{ address: '10.1.0.1', port: 443 }],
            quorum: 1,
            intervalMs: 100,
            timeoutMs: 100,
            fall: 3,
            rise: 5,
          },
          silenceMs: 20,
        },
      ],
    });
    assert.deepEqual(
      rules.map(({ id }) => id),
      [7],
    );
  });

  it('is the same in YAML and JSON, and after being written out', () => {
    const config = loadConfig(documented, 'vnic.yaml');
    const user = formatConfig(config);
    assert.deepEqual(loadConfig(JSON.stringify(user), 'vnic.json'), config);
    assert.deepEqual(loadConfig(stringifyYaml(user), 'vnic.yml'), config);
  });

  it('has defaults for all but the device’s name', () => {
    const [device] = loadConfig('devices: {eth0: }', 'vnic.yaml').devices;
    assert.deepEqual(device, parseDevice('eth0', {}));
    assert.equal(device!.numQueues, undefined);
    assert.equal(device!.enableZeroCopy, undefined);
    const [az] = loadConfig('devices: {eth0: {azs: [{name: a, queues: 5}]}}', 'vnic.yaml').devices[0]!.azs;
    assert.deepEqual(az, { name: 'a', queues: [5], weight: 1, prefixes: [] });
  });

  it('is published as a JSON Schema', () => {
    const schema = z.toJSONSchema(configSchema, { io: 'input' });
    assert.equal(schema.additionalProperties, false);
    for (const field of ['silence_ms', 'silence_floor_pps', 'failover', 'panic_share']) {
      assert.match(JSON.stringify(schema), new RegExp(`"${field}"`));
    }
  });

  it('has all its problems told at once', () => {
    const problems = problemsOf({
      num_queues: 8,
      colour: 'red',
      azs: [
        { name: 'a', queues: '0-9', prefixes: ['10.0.0.1/8'], weight: 0, probe: { type: 'tcp', target: 'x', fall: 0 } },
        { name: 'b', queues: '9' },
      ],
      rules: [
        { id: 0, action: 'pass', match: { src: 5, dst: 'x', proto: 'y' }, limit: { burst: 5 } },
        { id: 5, action: 'pass', queues: [8] },
      ],
    });
    assert.deepEqual(
      problems.map(({ path }) => path.replace('devices.eth0.', '')),
      [
        'colour',
        'azs[0].weight',
        'azs[0].probe.fall',
        'azs[0].prefixes[0]',
        'azs[0].probe.target',
        'azs[1].queues',
        'rules[0].id',
        'rules[0].match.src',
        'rules[0].limit.rate',
        'rules[0].match.dst',
        'rules[0].match.proto',
        'rules[1].queues',
      ],
    );
  });

  it('that is no YAML or JSON is refused with the place', () => {
    const yaml = thrownBy(() => loadConfig('devices:\n  eth0: {rules: [}\n', 'a.yaml'));
    assert.equal(yaml.code, 'invalid_config');
    assert.match(yaml.message, /a\.yaml is not valid YAML: .*line 2/);
    assert.match(thrownBy(() => loadConfig('devices: {a: 1, a: 2}', 'a.yaml')).message, /unique/);
    assert.match(thrownBy(() => loadConfig('{"devices":', 'a.json')).message, /a\.json is not valid JSON/);
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
    for (let level = 0; level < 8; level++) {
      const [from, to] = [String.fromCharCode(97 + level), String.fromCharCode(98 + level)];
      bomb.push(`${to}: &${to} [${Array.from({ length: 9 }, () => `*${from}`).join()}]`);
    }
    assert.match(thrownBy(() => loadConfig(bomb.join('\n'), 'a.yaml')).message, /alias/);
  });

  it('of another shape is refused', () => {
    for (const text of ['', '[]', '7', 'devices: []', 'eth0: {}', 'devices: {eth0: 5}', 'devices: {eth0: {azs: 5}}']) {
      assert.equal(thrownBy(() => loadConfig(text, 'a.yaml')).code, 'invalid_config', text);
    }
  });

  it('has settings of the wrong kind or out of range refused', () => {
    assertRefused({ num_queues: 65 }, '.num_queues', /65 is not a whole number from 1 to 64/, /1 to 64/);
    assertRefused({ num_queues: '32' }, '.num_queues', /"32" is not a whole number/, /1 to 64/);
    assertRefused({ numa_node: -2 }, '.numa_node', /from -1/, /-1/);
    assertRefused({ coalesce_usecs: 1.5 }, '.coalesce_usecs', /whole number/, /0 to/);
    assertRefused({ enable_zero_copy: 'yes' }, '.enable_zero_copy', /true or false/, /true or false/);
    assertRefused({ adaptive_threshold: -1 }, '.adaptive_threshold', /whole number/, /0 to/);
    assertRefused({ numqueues: 3 }, '.numqueues', /unknown field "numqueues"/, /num_queues/);
  });

  it('has device names that no device can have refused', () => {
    for (const name of ['', 'a/b', 'much-too-long-name', '..', 'a b', 'a:b', 'ééééééééé']) {
      assert.equal(isDeviceName(name), false, name);
      assert.match(problemsOf({}, name)[0]!.message, /is not a device name/);
    }
    assert.equal(isDeviceName('enp0s31f6.100'), true);
  });

  it('has the rules of a device checked as one set', () => {
    const rule = { id: 3, action: 'drop' };
    assertRefused({ rules: [rule, rule] }, '.rules[1].id', /rule id 3 is used twice/, /own id/);
    const far = { id: 3, action: 'pass', queues: [1, 9] };
    assertRefused({ num_queues: 4, rules: [far] }, '.rules[0].queues', /names queue 9.* 4 queues/, /0 to 3/);
    assert.equal(parseDevice('eth0', { rules: [far] }).rules.length, 1);
  });
});

describe('AZs', () => {
  const az = (name: string, queues: unknown, fields: Record<string, unknown> = {}) => ({ name, queues, ...fields });

  it('with wrong fields are refused', () => {
    const wrong: [Record<string, unknown>, string, RegExp, RegExp][] = [
      [az('a', ''), 'queues', /empty/, /0-10,12/],
      [az('a', []), 'queues', /empty/, /0-10,12/],
      [az('a', undefined), 'queues', /is missing/, /list of queues/],
      [az('a', '0-64'), 'queues', /"0-64" is not a queue/, /0 to 63/],
      [az('a', '3-1'), 'queues', /"3-1" is not a queue/, /0-10,12/],
      [az('a', '1,1'), 'queues', /queue 1 is listed twice/, /0-10,12/],
      [az('a', 1, { weight: 0 }), 'weight', /0 is not a number above 0/, /above 0/],
      [az('a', 1, { weight: -1 }), 'weight', /-1 is not a number above 0/, /above 0/],
      [az('a b', 1), 'name', /is not a name of at most 63/, /letters/],
      [az('', 1), 'name', /is not a name/, /letters/],
      [az('a', 1, { prefixes: ['10.1.2.3/8'] }), 'prefixes[0]', /host bits/, /10\.0\.0\.0\/8/],
      [az('a', 1, { prefixes: ['::/0'] }), 'prefixes[0]', /IPv4 as well/, /2000::\/3/],
      [az('a', 1, { silence_ms: 0 }), 'silence_ms', /whole number from 1/, /1 to/],
      [az('a', 1, { silence_ms: 20, silence_floor_pps: 0 }), 'silence_floor_pps', /whole number from 1/, /1 to/],
      [az('a', 1, { silence_floor_pps: 500 }), 'silence_floor_pps', /nothing without silence_ms/, /silence_ms/],
      [az('a', 1, { wieght: 1 }), 'wieght', /unknown field/, /weight/],
      [az('a', 1, { probe: { type: 'sctp', target: '10.0.0.1:1' } }), 'probe.type', /"sctp" is not icmp, tcp/, /tcp/],
      [az('a', 1, { probe: { type: 'tcp', target: 'db.example:443' } }), 'probe.target', /not an IPv4 or IPv6/, /./],
      [
        az('a', 1, { probe: { type: 'tcp', target: '10.0.0.1' } }),
        'probe.target',
        /address and port/,
        /10\.1\.0\.1:443/,
      ],
      [az('a', 1, { probe: { type: 'tcp', target: '10.0.0.1:0' } }), 'probe.target', /address and port/, /443/],
      [az('a', 1, { probe: { type: 'tcp', target: '10.0.0.1:1', fall: 0 } }), 'probe.fall', /whole number/, /1 to 100/],
    ];
    for (const [input, path, message, remedy] of wrong) {
      assertRefused({ azs: [input] }, `.azs[0].${path}`, message, remedy);
    }
  });

  it('that share a name, a queue or addresses are refused', () => {
    const pair = (a: Record<string, unknown>, b: Record<string, unknown>) => ({ azs: [az('a', 0, a), az('b', 1, b)] });
    assertRefused({ azs: [az('a', 0), az('a', 1)] }, '.azs[1].name', /name a is used twice/, /own name/);
    assertRefused({ azs: [az('a', '0-4'), az('b', '3-9')] }, '.azs[1].queues', /queue 3-4 is in AZ a/, /one AZ/);
    assertRefused(
      pair({ prefixes: ['10.1.0.0/16'] }, { prefixes: ['10.2.0.0/16', '10.1.0.0/16'] }),
      '.azs[1].prefixes[1]',
      /10\.1\.0\.0\/16 overlaps 10\.1\.0\.0\/16 of AZ a/,
      /one AZ/,
    );
    assertRefused(
      pair({ prefixes: ['fd00:a:1::/48'] }, { prefixes: ['fd00::/8'] }),
      '.azs[1].prefixes[0]',
      /overlaps fd00:a:1::\/48/,
      /Split/,
    );
    parseDevice('eth0', pair({ prefixes: ['10.0.0.0/9'] }, { prefixes: ['10.128.0.0/9', 'fd00::/8'] }));
  });

  it('beyond the device’s queues are refused', () => {
    const input = { num_queues: 8, azs: [az('a', '6-9')] };
    assertRefused(input, '.azs[0].queues', /queue 8-9, but num_queues is 8/, /0 to 7/);
    assert.equal(thrownBy(() => validateAzs([parseAz(az('a', 9))], 8)).code, 'invalid_config');
    validateAzs([parseAz(az('a', 9))], 10);
  });

  it('more than eight are refused', () => {
    const azs = Array.from({ length: 9 }, (_, index) => az(`az-${index}`, index));
    assertRefused({ azs }, '.azs', /9 AZs.*8/, /Join/);
    assert.equal(parseDevice('eth0', { azs: azs.slice(0, 8) }).azs.length, 8);
  });

  it('may be probed at an IPv6 address', () => {
    const probed = parseAz(az('a', 0, { probe: { type: 'tcp', target: '[FD00:a::1]:443' } }));
    assert.deepEqual(probed.probe, {
      type: 'tcp',
      targets: [{ address: 'fd00:a::1', port: 443 }],
      quorum: 1,
      intervalMs: 100,
      timeoutMs: 100,
      fall: 3,
      rise: 5,
    });
  });
});

describe('failover settings of a device', () => {
  const whole = {
    policy: 'absorb',
    panic_share: 0.5,
    move_deadline_ms: 500,
    deadman: { policy: 'pass', timeout_ms: 5000 },
    rebalance: { auto: true, threshold: 1.3, max_over_mean: 1.1, min_gain: 0.02, cool_down_ms: 5000 },
    queue_capacity_pps: 1_000_000,
  };

  it('are read and written out whole', () => {
    const device = parseDevice('eth0', { failover: whole });
    assert.deepEqual(device.failover, {
      policy: 'absorb',
      panicShare: 0.5,
      moveDeadlineMs: 500,
      deadman: 'pass',
      deadmanMs: 5000,
      rebalance: { auto: true, threshold: 1.3, maxOverMean: 1.1, minGain: 0.02, coolDownMs: 5000 },
      queueCapacityPps: 1_000_000,
    });
    assert.deepEqual(formatDevice(device).failover, whole);
  });

  it('that are at their defaults are not written out, so that what was kept before reads the same', () => {
    const { queue_capacity_pps: _, ...usual } = formatWholeFailover(failoverDefaults);
    assert.deepEqual(parseDevice('eth0', { failover: usual }).failover, failoverDefaults);
    assert.equal('failover' in formatDevice(parseDevice('eth0', { failover: usual })), false);
    const device = parseDevice('eth0', { failover: { deadman: { policy: 'pass' }, rebalance: { auto: true } } });
    assert.deepEqual(formatDevice(device).failover, { deadman: { policy: 'pass' }, rebalance: { auto: true } });
  });

  it('come back the same after being written out, whichever are given', () => {
    const part = (fields: object): fc.Arbitrary<object> =>
      fc.record(
        Object.fromEntries(
          Object.entries(fields).map(([name, value]: [string, unknown]) => [
            name,
            typeof value === 'object' && value !== null ? part(value) : fc.constant(value),
          ]),
        ),
        { requiredKeys: [] },
      );
    fc.assert(
      fc.property(part(whole), (failover) => {
        const device = parseDevice('eth0', { failover });
        assert.deepEqual(parseDevice('eth0', formatDevice(device)), device);
      }),
    );
  });

  it('take a threshold along with its aim, and the other way round', () => {
    const ratios = (rebalance: object): number[] => {
      const { threshold, maxOverMean } = parseDevice('eth0', { failover: { rebalance } }).failover.rebalance;
      return [threshold, maxOverMean];
    };
    assert.deepEqual(ratios({ threshold: 1.02 }), [1.02, 1.02]);
    assert.deepEqual(ratios({ max_over_mean: 1.5 }), [1.5, 1.5]);
  });

  it('of the wrong kind or out of range are refused, each with its place', () => {
    const wrong: [object, string, RegExp, RegExp][] = [
      [{ policy: 'flee' }, 'policy', /"flee" is not evacuate or absorb/, /evacuate or absorb/],
      [{ panic_share: 25 }, 'panic_share', /25 is not a number from 0 to 1/, /0 to 1/],
      [{ move_deadline_ms: 0 }, 'move_deadline_ms', /whole number from 1/, /1 to/],
      [{ deadman: 'hold' }, 'deadman', /not an object/, /policy, timeout_ms/],
      [{ deadman: { policy: 'drop' } }, 'deadman.policy', /"drop" is not hold or pass/, /hold or pass/],
      [{ deadman: { timeout_ms: 5 } }, 'deadman.timeout_ms', /5 is not a whole number from 100/, /100 to/],
      [{ rebalance: { threshold: 0.9 } }, 'rebalance.threshold', /0.9 is not a number from 1/, /1 to/],
      [
        { rebalance: { threshold: 1.1, max_over_mean: 1.2 } },
        'rebalance.max_over_mean',
        /1.2 is above threshold 1.1/,
        /at most the threshold/,
      ],
      [{ rebalance: { cool_down: 1 } }, 'rebalance.cool_down', /unknown field/, /cool_down_ms/],
      [{ queue_capacity_pps: 0 }, 'queue_capacity_pps', /whole number from 1/, /1 to/],
      [{ panicshare: 1 }, 'panicshare', /unknown field/, /panic_share/],
    ];
    for (const [failover, path, message, remedy] of wrong) {
      assertRefused({ failover }, `.failover.${path}`, message, remedy);
    }
  });
});

describe('AZs that will not be failed over as expected', () => {
  const warned = (device: object): string[] =>
    azWarnings(parseDevice('eth0', device)).map(({ code, az }) => `${code} ${az}`);
  const probe = { type: 'icmp', target: '10.0.0.1' };

  it('are warned of: silence of what cannot be heard', () => {
    const azs = [
      { name: 'a', queues: 0, silence_ms: 20 },
      { name: 'b', queues: 1, silence_ms: 20, prefixes: ['10.0.0.0/8'] },
    ];
    assert.deepEqual(warned({ azs }), ['silence_unheard a']);
  });

  it('are warned of: too few queues without them', () => {
    const azs = [
      { name: 'a', queues: '0-6', probe },
      { name: 'b', queues: '7', probe },
    ];
    assert.deepEqual(warned({ num_queues: 8, azs }), ['never_failed a']);
    assert.deepEqual(warned({ num_queues: 8, azs, failover: { panic_share: 0.1 } }), []);
    assert.deepEqual(warned({ num_queues: 8, azs, failover: { policy: 'absorb' } }), []);
    assert.deepEqual(warned({ azs }), []);
    assert.deepEqual(warned({ num_queues: 8, azs: [{ name: 'a', queues: '0-7' }] }), []);
  });
});

describe('queue lists', () => {
  it('are read from text, one number or a list', () => {
    assert.deepEqual(parseQueueList('0-3, 12'), [0, 1, 2, 3, 12]);
    assert.deepEqual(parseQueueList(5), [5]);
    assert.deepEqual(parseQueueList([7, 3]), [3, 7]);
    for (const bad of ['a', '1-', '-1', '64', '1;2', '0-3,2', '1.5', 1.5, -1, [64], [], '']) {
      assert.equal(thrownBy(() => parseQueueList(bad)).code, 'invalid_config', String(bad));
    }
  });

  it('come back the same after being written out', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(63), { minLength: 1, maxLength: 64 }), (queues) => {
        const text = formatQueueList(queues);
        assert.deepEqual(
          parseQueueList(text),
          queues.toSorted((a, b) => a - b),
        );
        assert.equal(formatQueueList(parseQueueList(text)), text);
      }),
    );
    assert.equal(formatQueueList([0, 1, 2, 12, 9, 10]), '0-2,9-10,12');
  });
});

describe('a configuration file', () => {
  it('is read, and a missing one is named', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'vnic-config-'));
    try {
      const file = join(folder, 'vnic.yaml');
      await writeFile(file, documented);
      assert.deepEqual(await readConfigFile(file), loadConfig(documented, file));
      await assert.rejects(readConfigFile(join(folder, 'none.yaml')), (error: VnicError) => {
        assert.equal(error.code, 'not_found');
        assert.match(error.message, /none\.yaml/);
        return true;
      });
      await assert.rejects(readConfigFile(folder), (error: VnicError) => error.code === 'failed');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
