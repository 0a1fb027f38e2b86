// SPDX-License-Identifier: Apache-2.0
/** Members of etcd for tests: Debian's etcd-server, unpacked by scripts/deps.sh or installed. Their data is on tmpfs. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram } from '../../scripts/testing/unpacked.ts';
import { EtcdStore } from '../../src/fleet/etcd/etcd-store.ts';
import { type Credentials, Gateway } from '../../src/fleet/etcd/gateway.ts';
import { freePort } from './daemon.ts';

export const etcdProgram = findProgram('etcd', 'usr/bin/etcd');
export const etcdctlProgram = findProgram('etcd', 'usr/bin/etcdctl');
export const noEtcd = 'etcd is not there: the package etcd-server could not be unpacked';

/** fsync costs nothing there: what is measured is not the disk of the test machine. */
const DATA_ROOT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const START_TIMEOUT_MS = 30_000;

export const open: Credentials = { tls: null, auth: null };

export interface MemberPlace {
  /** The machine's own namespace: null. */
  netns: string | null;
  address: string;
  clientPort: number;
  peerPort: number;
}

export interface CertificateFiles {
  ca: string;
  cert: string;
  key: string;
}

export class EtcdMember {
  readonly name: string;
  readonly place: MemberPlace;
  readonly endpoint: string;
  readonly #folder: string;
  readonly #args: string[];
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();
  log = '';

  constructor(name: string, place: MemberPlace, cluster: string, folder: string, tls: CertificateFiles | null) {
    this.name = name;
    this.place = place;
    this.#folder = folder;
    const client = `${tls === null ? 'http' : 'https'}://${place.address}:${place.clientPort}`;
    this.endpoint = client;
    const peer = `http://${place.address}:${place.peerPort}`;
    this.#args = [
      '--name',
      name,
      '--data-dir',
      path.join(folder, name),
      '--listen-client-urls',
      client,
      '--advertise-client-urls',
      client,
      '--listen-peer-urls',
      peer,
      '--initial-advertise-peer-urls',
      peer,
      '--initial-cluster',
      cluster,
      '--initial-cluster-state',
      'new',
      '--log-level',
      'error',
      ...(tls === null
        ? []
        : ['--client-cert-auth', '--trusted-ca-file', tls.ca, '--cert-file', tls.cert, '--key-file', tls.key]),
    ];
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get folder(): string {
    return this.#folder;
  }

  /** Again after kill(): with the data that it had. */
  run(): void {
    const { netns } = this.place;
    const inside = netns === null ? [] : ['nsenter', `--net=/run/netns/${netns}`];
    const [command, ...args] = [...inside, etcdProgram!, ...this.#args];
    const child = spawn(command!, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch },
    });
    child.stderr.on('data', (data: Buffer) => {
      this.log += data.toString();
    });
    this.#child = child;
    this.#exited = new Promise((resolve) => child.on('exit', resolve));
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    if (this.#child === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  store(credentials: Credentials = open): EtcdStore {
    return new EtcdStore(this.endpoint, credentials);
  }
}

export interface ClusterOptions {
  places?: readonly MemberPlace[];
  tls?: CertificateFiles;
  /** To look whether it answers. */
  credentials?: Credentials;
}

export class EtcdCluster implements AsyncDisposable {
  readonly members: EtcdMember[];
  readonly folder: string;
  readonly #credentials: Credentials;

  private constructor(members: EtcdMember[], folder: string, credentials: Credentials) {
    this.members = members;
    this.folder = folder;
    this.#credentials = credentials;
  }

  /** @param options.places default: one member on loopback */
  static async start({ places, tls, credentials = open }: ClusterOptions = {}): Promise<EtcdCluster> {
    const folder = mkdtempSync(path.join(DATA_ROOT, 'vnic-etcd-'));
    const all = places ?? [
      { netns: null, address: '127.0.0.1', clientPort: await freePort(), peerPort: await freePort() },
    ];
    const cluster = all.map(({ address, peerPort }, index) => `m${index}=http://${address}:${peerPort}`).join();
    const members = all.map((place, index) => new EtcdMember(`m${index}`, place, cluster, folder, tls ?? null));
    const started = new EtcdCluster(members, folder, credentials);
    for (const member of members) member.run();
    try {
      await started.ready();
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
    return started;
  }

  get endpoints(): string[] {
    return this.members.map(({ endpoint }) => endpoint);
  }

  /** Waits until every member answers with a majority behind it. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (const member of this.members) {
      const store = member.store(this.#credentials);
      try {
        for (;;) {
          const error = await store.newest('/').then(
            () => null,
            (reason: Error) => reason,
          );
          if (error === null) break;
          if (performance.now() > deadline) throw new Error(`${member.name}: ${error.message}\n${member.log}`);
          await sleep(50);
        }
      } finally {
        store.close();
      }
    }
  }

  /** The member that leads, by what etcd says of itself; waits until one does. */
  async leader(): Promise<EtcdMember> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadline) {
      for (const member of this.members) {
        const gateway = new Gateway(member.endpoint, this.#credentials);
        const status = await gateway.call<StatusAnswer>('/v3/maintenance/status', {}).catch(() => null);
        gateway.close();
        if (status !== null && status.leader === status.header.member_id) return member;
      }
      await sleep(50);
    }
    throw new Error('no member leads');
  }

  /** Runs etcdctl on the first member. */
  ctl(...args: string[]): string {
    return execFileSync(etcdctlProgram!, ['--endpoints', this.members[0]!.endpoint, ...args], {
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.members.map(async (member) => {
        member.thaw();
        await member.kill();
      }),
    );
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface StatusAnswer {
  leader: string;
  header: { member_id: string };
}

/** A certificate authority, and certificates that it signs, for 127.0.0.1 (servers) and for clients. */
export class TestAuthority {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    this.#openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=vnic test authority',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
    );
  }

  /** Without a common name, as etcd's gateway wants it of servers and of clients. @param commonName all the same */
  issue(name: string, kind: 'server' | 'client', commonName?: string): CertificateFiles {
    // etcd's gateway shows the server's certificate to the server itself.
    const usage = kind === 'server' ? 'serverAuth,clientAuth' : 'clientAuth';
    writeFileSync(path.join(this.folder, `${name}.ext`), `subjectAltName=IP:127.0.0.1\nextendedKeyUsage=${usage}\n`);
    const subject = commonName === undefined ? '/O=vnic test' : `/CN=${commonName}`;
    this.#openssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      subject,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
    );
    this.#openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}.pem`,
    );
    const file = (suffix: string): string => path.join(this.folder, suffix);
    return { ca: file('ca.pem'), cert: file(`${name}.pem`), key: file(`${name}.key`) };
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: 'ignore' });
  }
}
