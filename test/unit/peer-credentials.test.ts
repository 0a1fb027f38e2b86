// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, openSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

import { VnicError } from '../../src/errors.ts';
import { type PeerCredentials, peerCredentials, socketFd } from '../../src/loader/peer-credentials.ts';
import { describeEachAdapter, requireRoot } from '../support/ffi.ts';

/** Becomes somebody else, connects to the socket and stays until it is killed. */
const clientScript = `
  const [path, uid, gid, groups] = process.argv.slice(1);
  process.setgroups(JSON.parse(groups));
  process.setgid(Number(gid));
  process.setuid(Number(uid));
  require('node:net').connect(path);
`;

describeEachAdapter('credentials of a peer', (fixture) => {
  let path: string;
  let server: Server;
  const sockets: Socket[] = [];
  const children: ChildProcess[] = [];

  before(async () => {
    chmodSync(fixture.folder, 0o755);
    path = join(fixture.folder, 'peer.sock');
    // Paused: a socket that Node reads to its end is closed by it.
    server = createServer({ pauseOnConnect: true }).listen(path);
    await once(server, 'listening');
    chmodSync(path, 0o777);
  });

  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  after(() => {
    server.close();
  });

  async function accepted(): Promise<Socket> {
    const [socket] = (await once(server, 'connection')) as [Socket];
    sockets.push(socket);
    return socket;
  }

  function openFd(socket: Socket): number {
    const fd = socketFd(socket);
    assert.ok(fd !== null);
    return fd;
  }

  function ask(socket: Socket): PeerCredentials {
    return peerCredentials(fixture.native, openFd(socket));
  }

  async function connectAs(uid: number, gid: number, groups: number[]) {
    const accepting = accepted();
    const child = spawn(process.execPath, ['-e', clientScript, path, `${uid}`, `${gid}`, JSON.stringify(groups)], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    children.push(child);
    return { child, socket: await accepting };
  }

  it('are those of this process when it connects to itself, on both ends', async () => {
    const accepting = accepted();
    const client = connect(path);
    sockets.push(client);
    const served = await accepting;
    const own = new Set([process.getegid!(), ...process.getgroups!()]);
    for (const socket of [client, served]) {
      const { pid, uid, gids } = ask(socket);
      assert.deepEqual({ pid, uid }, { pid: process.pid, uid: process.geteuid!() });
      assert.equal(gids[0], process.getegid!());
      assert.deepEqual(new Set(gids), own);
      assert.equal(gids.length, own.size);
    }
  });

  it('are those of another user with supplementary groups', async function () {
    requireRoot(this);
    const { child, socket } = await connectAs(4242, 4343, [5002, 5001, 4343]);
    const { pid, uid, gids } = ask(socket);
    assert.deepEqual({ pid, uid }, { pid: child.pid, uid: 4242 });
    assert.equal(gids[0], 4343);
    assert.deepEqual(new Set(gids), new Set([4343, 5001, 5002]));
    assert.equal(gids.length, 3);
  });

  it('have every group of a peer that is in very many, and none but the first of one in none', async function () {
    requireRoot(this);
    const groups = Array.from({ length: 1000 }, (_, index) => 60_000 + index);
    const many = await connectAs(4242, 4343, groups);
    assert.deepEqual(ask(many.socket).gids, [4343, ...groups]);
    const none = await connectAs(0xffff_fffe, 4343, []);
    assert.deepEqual(ask(none.socket), { pid: none.child.pid, uid: 0xffff_fffe, gids: [4343] });
  });

  it('stay known when the peer has ended', async function () {
    requireRoot(this);
    const { child, socket } = await connectAs(4242, 4343, [5001]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.deepEqual(ask(socket), { pid: child.pid, uid: 4242, gids: [4343, 5001] });
  });

  function assertNoPeer(fd: number, reason: RegExp): void {
    assert.throws(
      () => peerCredentials(fixture.native, fd),
      (error) =>
        error instanceof VnicError &&
        error.code === 'failed' &&
        error.message.includes('no connected Unix socket') &&
        reason.test(error.message) &&
        error.remedy !== undefined,
    );
  }

  it('are refused for what is no connected Unix socket', async () => {
    const tcp = createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    try {
      const { port } = tcp.address() as { port: number };
      const client = connect(port, '127.0.0.1');
      sockets.push(client);
      await once(client, 'connect');
      assertNoPeer(openFd(client), /no peer/);
      assertNoPeer(openFd(tcp as unknown as Socket), /listens/);
    } finally {
      tcp.close();
    }
    // The kernel would answer with this process's own credentials.
    assertNoPeer(openFd(server as unknown as Socket), /listens/);
    const file = openSync('/dev/null', 'r');
    try {
      assertNoPeer(file, /ENOTSOCK/);
    } finally {
      closeSync(file);
    }
    assertNoPeer(-1, /EBADF/);
  });

  it('are asked for by the descriptor of a socket, which is gone once the socket is closed', async () => {
    const accepting = accepted();
    const client = connect(path);
    sockets.push(client);
    const served = await accepting;
    assert.notEqual(socketFd(served), socketFd(client));
    served.destroy();
    await once(served, 'close');
    assert.equal(socketFd(served), null);
  });
});
