// SPDX-License-Identifier: Apache-2.0
/** The same commands with a daemon and without: the same output, the same errors, the same exit codes. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { request } from 'node:http';
import { CliRig, vnicctl } from '../support/cli.ts';

/** Changes and looks, in this order. What is printed may not depend on when it is. */
const commands = [
  'rule add --id 7 --priority 100 --src 10.1.0.0/16 --proto udp --dport 53 --rate 10mbit --scope flow --queues 3,4',
  'rule add --id 7',
  'rule add --id 8 --src 10.0.0.0/99',
  'rule add --id 8 --dst 10.9.0.1 --action drop',
  'rule list',
  'rule get 7',
  'rule get 9',
  'rule replace 9 --action drop',
  'rule replace 8 --dst 10.9.0.2 --action drop',
  '--dry-run rule delete 7 8',
  'rule export --format yaml',
  'rule export --format ndjson',
  'limit set 8 --rate 1mbit',
  'limit set 7 --rate 20kpps',
  'limit list',
  'limit clear 7',
  'limit clear 7',
  'az set az-a --queues 0-15 --prefix 10.1.0.0/16',
  'az set az-b --queues 10-31',
  'az set az-b --queues 16-31 --weight 2',
  'az list',
  'plan --az az-b',
  '--dry-run az fail az-b',
  'az delete az-x',
  'explain vnic0 --src 10.1.0.5:4000 --dst 10.9.0.1:443 --proto tcp',
  'explain vnic0 --src 10.1.0.5 --dst fd00::1 --proto 47',
  'flows',
  'apply',
  'status vnic1',
  'detach --dry-run vnic0',
  'doctor nosuch0',
] as const;

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

function isReady(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const outgoing = request({ socketPath, path: '/readyz', agent: false });
  outgoing.on('response', (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  });
  outgoing.on('error', () => resolve(false));
  outgoing.end();
  return promise;
}

describe('vnicctl with a daemon and without', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(600_000);
  let rig: CliRig;
  let daemon: ChildProcess | undefined;

  before(() => {
    rig = new CliRig('daemon');
  });
  afterEach(async () => {
    await stop();
    rig.run(['detach', 'vnic0', '--force']);
  });
  after(() => rig?.[Symbol.dispose]());

  async function start(): Promise<void> {
    const env = { ...process.env, VNIC_STATE_DIR: rig.stateFolder, VNIC_SOCKET: rig.socket };
    const child = spawn(vnicctl, ['serve', '--listen', 'off'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    daemon = child;
    let log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        log += data.toString();
      });
    }
    while (!(await isReady(rig.socket))) {
      assert.equal(child.exitCode, null, `the daemon ended: ${log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async function stop(): Promise<void> {
    const child = daemon;
    daemon = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }

  /** Runs all commands on a device that is newly attached. The random seed of its hash is not compared. */
  function outcomes(format: string): Outcome[] {
    rig.ok(['attach', 'vnic0']);
    const results = commands.map((command) => {
      const { code, stdout, stderr } = rig.run(['-o', format, ...command.split(' ')]);
      const comparable = (text: string): string =>
        text
          .replace(/switched in [\d.]+ \S+/g, 'switched in TIME')
          .replace(/"(commitNs|hash|bucket|queue|cpu|before|after|buckets|from|to|maxOverMean)": [^,\n]+/g, '"$1": ?')
          .replace(/^(bucket|queue|CPU) .*$/gm, '$1 ?');
      return { code, stdout: comparable(stdout), stderr };
    });
    rig.ok(['detach', 'vnic0']);
    return results;
  }

  for (const format of ['table', 'json']) {
    it(`prints the same (${format})`, async () => {
      const without = outcomes(format);
      await start();
      const withDaemon = outcomes(format);
      for (const [index, command] of commands.entries()) assert.deepEqual(withDaemon[index], without[index], command);
    });
  }

  it('tells by events what commands did', async () => {
    await start();
    rig.ok(['attach', 'vnic0']);
    rig.ok('rule add --id 1 --action drop'.split(' '));
    const events = rig
      .ok(['-o', 'json', 'events', '--latest', '100'])
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; device: string });
    assert.deepEqual(
      events.filter(({ device }) => device === `vnic0@${rig.guest}`).map(({ type }) => type),
      ['device.attached', 'rules.changed'],
    );
  });
});
