// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { HttpRig, type RawConnection, type RigOptions, until } from '../support/http.ts';

const EVENTS = '/api/v1/events';

describe('the event stream', () => {
  let rig: HttpRig;
  const start = async (options: RigOptions = {}): Promise<void> => {
    rig = await HttpRig.start(options);
  };
  afterEach(() => rig.stop());

  async function follow(target = EVENTS, headers = ''): Promise<RawConnection> {
    const connection = rig.connect();
    connection.socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
    await connection.has(/retry: \d+\n\n/);
    return connection;
  }

  const publish = (type: string, data: Record<string, unknown> = {}) =>
    rig.events.publish({ type, device: 'eth0', data });
  const typesIn = ({ received }: RawConnection): string[] =>
    [...received.matchAll(/^event: (.*)$/gm)].map(([, type]) => type!);

  it('brings what happens, as it is logged', async () => {
    await start();
    publish('before');
    const stream = await follow();
    assert.match(stream.received, /^HTTP\/1.1 200 OK\r\n/);
    assert.match(stream.received, /content-type: text\/event-stream\r\n/i);
    assert.match(stream.received, /cache-control: no-store\r\n/i);
    const logged = publish('rules.replaced', { text: 'two\nlines', count: 2n ** 60n });
    await stream.has(/"two/);
    const [, id, type, data] = /id: (.*)\nevent: (.*)\ndata: (.*)\n\n/.exec(stream.received)!;
    assert.deepEqual([id, type], [logged.id, 'rules.replaced']);
    assert.match(data!, /"count":1152921504606846976/);
    const { data: inner, ...event } = JSON.parse(data!) as Record<string, Record<string, unknown>>;
    assert.deepEqual(event, { type: 'rules.replaced', id: logged.id, time: logged.time, device: 'eth0' });
    assert.equal(inner!['text'], 'two\nlines');
    assert.deepEqual(typesIn(stream), ['rules.replaced']);
  });

  it('goes on where it was cut off', async () => {
    await start();
    const { id } = publish('one');
    publish('two');
    publish('three');
    const stream = await follow(EVENTS, `Last-Event-ID: ${id}\r\n`);
    publish('four');
    await stream.has(/event: four/);
    assert.deepEqual(typesIn(stream), ['two', 'three', 'four']);
  });

  it('says so when something between is lost', async () => {
    await start({ eventCapacity: 2 });
    const { id } = publish('one');
    for (const type of ['two', 'three', 'four']) publish(type);
    const stream = await follow(EVENTS, `Last-Event-ID: ${id}\r\n`);
    await stream.has(/event: four/);
    assert.deepEqual(typesIn(stream), ['reset', 'three', 'four']);
    for (const other of ['zzz.1', 'rubbish', '1.99']) {
      assert.equal(typesIn(await follow(EVENTS, `Last-Event-ID: ${other}\r\n`))[0], 'reset', other);
    }
  });

  it('begins with the latest events if asked for', async () => {
    await start();
    for (const type of ['one', 'two', 'three']) publish(type);
    assert.deepEqual(typesIn(await follow(`${EVENTS}?latest=2`)), ['two', 'three']);
    assert.deepEqual(typesIn(await follow(`${EVENTS}?latest=0`)), []);
    for (const query of ['latest=x', 'latest=-1', 'latest=5000', 'latest=1&latest=2', 'other=1']) {
      const { status, json } = await rig.ask(`${EVENTS}?${query}`);
      assert.deepEqual([status, json['code']], [400, 'usage'], query);
    }
  });

  it('is not to be had as something else', async () => {
    await start();
    const { status, json } = await rig.ask(EVENTS, { headers: { accept: 'application/json' } });
    assert.deepEqual([status, json['code']], [406, 'not_acceptable']);
    await follow(EVENTS, 'Accept: text/event-stream\r\n');
  });

  it('gives signs of life', async () => {
    await start({ timings: { heartbeatMs: 20 } });
    const stream = await follow();
    await stream.has(/(:\n\n[^:]*){2}/);
  });

  it('has a limit of its own, and takes none of the requests’', async () => {
    await start({ limits: { eventStreams: 2, openRequests: 1 } });
    const first = await follow();
    await follow();
    assert.equal((await rig.ask('/api/v1/devices')).status, 200);
    const refused = await rig.ask(EVENTS);
    assert.deepEqual([refused.status, refused.json['code']], [429, 'too_many_requests']);
    first.socket.destroy();
    await rig.logged(({ path }) => path === EVENTS);
    await until(() => rig.log.find(({ status, cutOff }) => status === 200 && cutOff === true));
    await follow();
  });

  it('cuts off a reader that does not read, and only that one', async () => {
    await start();
    const slow = await follow(`${EVENTS}?latest=1`);
    const quick = await follow();
    slow.socket.pause();
    const text = 'x'.repeat(100_000);
    let published = 0;
    await until(() => {
      publish('large', { text });
      published++;
      return rig.log.find(({ path }) => path === `${EVENTS}?latest=1`);
    });
    publish('last');
    await quick.has(/event: last/);
    assert.equal(typesIn(quick).length, published + 1);
    assert.ok(published > 10, `${published} events of 100 kB`);
  });

  it('lets a reader catch up with more than a slow one may leave waiting', async () => {
    await start();
    const text = 'x'.repeat(100_000);
    const { id } = publish('first');
    for (let count = 0; count < 60; count++) publish('large', { text });
    const stream = await follow(EVENTS, `Last-Event-ID: ${id}\r\n`);
    publish('last');
    await stream.has(/event: last/);
    assert.equal(typesIn(stream).length, 61);
  });

  it('ends properly when the server closes, long before the grace is over', async () => {
    await start();
    const stream = await follow();
    await rig.server.close(3_600_000);
    await stream.closed();
    // The last chunk: the stream was ended, not broken.
    assert.match(stream.received, /\r\n0\r\n\r\n$/);
  });
});
