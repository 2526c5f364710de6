// Order and rates: one socket's events are handled in the order in which it sent them; floods end; others notice nothing.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { accepted, Client, people, TRANSPORTS, unique } from './lib/client.mjs';
import { startServer } from './lib/server.mjs';

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** Numbered candidates sent at once: their acks in the order of arrival. Resolves when the last ack, or a disconnect, came. */
function burst(from, target, numbers) {
  return new Promise((done, fail) => {
    const acks = [];
    const timer = setTimeout(() => fail(new Error(`${acks.length} of ${numbers.length} acks`)), 60_000);
    const finish = () => { clearTimeout(timer); from.socket.off('disconnect', finish); done(acks); };
    from.socket.once('disconnect', finish);
    for (const n of numbers) {
      const message = { sessionId: from.sessionId, userId: from.userId, targetUserId: target.userId, candidate: { candidate: 'x', n } };
      from.socket.emit('ice-candidate', message, (ack) => {
        acks.push({ n, ack });
        if (acks.length === numbers.length) finish();
      });
    }
  });
}

function assertAnswer({ n, ack }) {
  assert.ok(ack.ok === true || ack.error?.code === 'rate/limited', `event ${n}: ${JSON.stringify(ack)}`);
}

/** What `reader` received from `sender`, as numbers. */
const received = (reader, sender) => reader.all('ice-candidate', (m) => m.userId === sender.userId).map((m) => m.candidate.n);

describe('20,000 events arrive and are acked in order', { concurrency: true }, () => {
  const PAIRS = 10;
  const EVENTS_PER_SOCKET = 1_000;
  const BURST = 100;

  for (const transport of TRANSPORTS) {
    test(`${PAIRS} sockets of ${EVENTS_PER_SOCKET} over ${transport}`, { timeout: 180_000 }, async (t) => {
      const pairs = await Promise.all(Array.from({ length: PAIRS }, () => people(t, server, 2, { transport })));
      await Promise.all(pairs.map(async ([sender, reader]) => {
        const granted = [];
        for (let start = 0; start < EVENTS_PER_SOCKET; start += BURST) {
          const numbers = Array.from({ length: BURST }, (_, i) => start + i);
          const acks = await burst(sender, reader, numbers);
          assert.deepEqual(acks.map((a) => a.n), numbers, 'acks come in the order of the events');
          acks.forEach(assertAnswer);
          granted.push(...acks.filter((a) => a.ack.ok).map((a) => a.n));
          // A bucket that ran dry fills with time; a client that heeds `rate/limited` is not a flooder.
          if (acks.some((a) => !a.ack.ok)) await sleep(1_000);
        }
        await sender.fence(reader);
        assert.deepEqual(received(reader, sender), granted, 'what was granted arrives once and in order');
        assert.ok(granted.length >= BURST, `only ${granted.length} granted: a mesh client's candidates come in bursts`);
      }));
    });
  }

  test('events of different kinds keep their order too', async (t) => {
    const [a, b] = await people(t, server, 2);
    const sent = [];
    const acks = [];
    for (let n = 0; n < 30; n += 1) {
      const kind = ['offer', 'ice-candidate', 'answer'][n % 3];
      const field = kind === 'ice-candidate' ? 'candidate' : kind;
      sent.push([kind, n]);
      acks.push(a.emit(kind, { sessionId: a.sessionId, userId: a.userId, targetUserId: b.userId, [field]: { n } }));
    }
    (await Promise.all(acks)).forEach(accepted);
    await a.fence(b);
    const got = b.log.filter((e) => e.payload?.userId === a.userId && e.event !== 'chat-message' && e.payload.sessionId)
      .filter((e) => ['offer', 'answer', 'ice-candidate'].includes(e.event))
      .map((e) => [e.event, (e.payload.offer ?? e.payload.answer ?? e.payload.candidate).n]);
    assert.deepEqual(got, sent);
  });
});

describe('floods', () => {
  for (const transport of TRANSPORTS) {
    test(`20,000 events at once over ${transport}: limited, cut off, and another pair notices nothing`, { timeout: 180_000 }, async (t) => {
      const [flooder, target] = await people(t, server, 2, { transport, from: '127.0.0.70' });
      const [x, y] = await people(t, server, 2, { from: '127.0.0.71' });
      const latencies = [];
      let flooding = true;
      const probe = (async () => {
        for (let n = 0; flooding || n < 10; n += 1) {
          const start = performance.now();
          accepted(await x.signal('ice-candidate', y.userId, { probe: n }));
          await y.seen('ice-candidate', (m) => m.candidate.probe === n);
          latencies.push(performance.now() - start);
          await sleep(100);
        }
      })();
      const gone = flooder.seen('disconnect', () => true, { within: 120_000 });
      const numbers = Array.from({ length: 20_000 }, (_, n) => n);
      const acks = await burst(flooder, target, numbers);
      // The events went out in one go, so if they did not end the connection, keeping at it must.
      for (let round = 0; flooder.socket.connected && round < 20; round += 1) {
        await burst(flooder, target, Array.from({ length: 2_000 }, (_, n) => 20_000 + round * 2_000 + n));
      }
      await gone;
      flooding = false;
      await probe;
      assert.deepEqual(acks.map((a) => a.n), numbers.slice(0, acks.length), 'acks are a gapless prefix, in order');
      const limit = acks.some((a) => !a.ack.ok) ? acks.findIndex((a) => !a.ack.ok) : acks.length;
      acks.slice(0, limit).forEach(assertAnswer);
      // Once it is being cut off, what still comes may also be told that there is no seat any more.
      for (const { ack } of acks.slice(limit)) assert.ok(ack.ok || ['rate/limited', 'session/not_joined'].includes(ack.error.code));
      const arrived = received(target, flooder);
      assert.deepEqual(arrived, [...arrived].sort((p, q) => p - q), 'what arrives is in order');
      assert.equal(new Set(arrived).size, arrived.length, 'and once');
      const told = acks.some((a) => a.ack.error?.code === 'rate/limited') || flooder.all('session-error', (e) => e.code === 'rate/limited').length > 0;
      assert.ok(told, 'the flooder is told why');
      latencies.sort((p, q) => p - q);
      // The client's own event loop is busy emitting during the first moments; the median shows the server.
      const median = latencies[Math.floor(latencies.length / 2)];
      t.diagnostic(`median round trip of the other pair ${median.toFixed(1)} ms`);
      assert.ok(median < 1_000, `median round trip of the other pair ${median.toFixed(1)} ms`);
      assert.equal(x.all('disconnect').length, 0);
    });
  }

  test('chat and reactions beyond the limit are refused in order, and pass again later', { timeout: 120_000 }, async (t) => {
    const [a, b] = await people(t, server, 2);
    const order = [];
    const count = 150;
    const acks = await Promise.all(Array.from({ length: count }, (_, n) => a.chat(`m${n}`).then((ack) => { order.push(n); return ack; })));
    // What is kept is acknowledged when it is on disk, which a refusal need not wait for.
    for (const ok of [true, false]) {
      const alike = order.filter((n) => acks[n].ok === ok);
      assert.deepEqual(alike, alike.toSorted((one, other) => one - other));
    }
    acks.forEach((ack, n) => assertAnswer({ n, ack }));
    assert.ok(acks[0].ok, 'the first is within any limit');
    assert.ok(acks.some((ack) => !ack.ok), `nobody types ${count} messages at once`);
    let again;
    for (let tries = 0; tries < 20; tries += 1) {
      await sleep(500);
      again = await a.chat('later');
      if (again.ok) break;
    }
    accepted(again);
    await b.seen('chat-message', (m) => m.id === again.id);
    const heard = b.all('chat-message', (m) => /^m\d+$/.test(m.message)).map((m) => m.message);
    assert.deepEqual(heard, acks.flatMap((ack, n) => (ack.ok ? [`m${n}`] : [])));
    const reactions = await Promise.all(Array.from({ length: count }, () => a.emit('reaction', { emoji: '👍' })));
    reactions.forEach((ack, n) => assertAnswer({ n, ack }));
    assert.ok(reactions.some((ack) => !ack.ok));
  });

  test('many users from many addresses are not slowed by a limit of one', async (t) => {
    const sessionId = unique('room');
    const members = await Promise.all(Array.from({ length: 10 }, (_, i) =>
      Client.join(server, { from: `127.0.0.${80 + i}` }, { sessionId, userId: unique('user') })));
    t.after(() => members.forEach((m) => m.close()));
    const acks = await Promise.all(members.flatMap((m) => members.filter((o) => o !== m)
      .map((o) => m.signal('offer', o.userId, { type: 'offer', sdp: 'x'.repeat(4_000) }))));
    acks.forEach(accepted);
  });
});
