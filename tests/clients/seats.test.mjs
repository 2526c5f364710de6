// Seats: grace, resume, replacement, early events; two parallel joins of one user.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { accepted, byUser, Client, people, refused, TRANSPORTS, unique } from './lib/client.mjs';
import { startServer } from './lib/server.mjs';

const GRACE_MS = 1_500;
/** Pings every 10 s with 10 s to answer, and some time to act on a busy machine. */
const SILENCE_NOTICED_MS = 40_000;
/** One server whose grace ends within a test, one with the default grace of 20 s. */
let hasty;
let patient;
before(async () => {
  [hasty, patient] = await Promise.all([startServer({ LYCEUM__ROOM__GRACE_MS: String(GRACE_MS) }), startServer()]);
});
after(() => Promise.all([hasty?.stop(), patient?.stop()]));

/** Resolves with the reason when the socket is disconnected. */
const disconnected = (client) => client.seen('disconnect');
const seatOf = (client) => ({ sessionId: client.sessionId, userId: client.userId });

for (const transport of TRANSPORTS) {
  describe(`seats over ${transport}`, { concurrency: true }, () => {
    test('a clean disconnect leaves at once', async (t) => {
      const [a, b] = await people(t, patient, 2, { transport });
      const start = Date.now();
      a.socket.disconnect();
      const left = await b.seen('user-left');
      assert.ok(Date.now() - start < 10_000, 'long before the grace of 20 s');
      assert.equal(left.participantId, a.seat.participantId);
      assert.ok(typeof left.reason === 'string' && left.reason.length > 0);
      const since = b.log.findIndex((e) => e.event === 'user-left');
      await b.roster((r) => !r.has(a.userId), { since });
      assert.deepEqual(b.all('participants-update', (m) => byUser(m.participants).get(a.userId)?.state === 'reconnecting'), []);
    });

    test('a dropped transport keeps the seat, and the token resumes it', async (t) => {
      const [a, b] = await people(t, patient, 2, { transport });
      const since = b.mark();
      a.drop();
      await b.roster((r) => r.get(a.userId)?.state === 'reconnecting', { since });
      const back = await Client.connect(patient, { transport });
      t.after(() => back.close());
      const ack = await back.joinSession({ ...seatOf(a), resumeToken: a.seat.resumeToken });
      assert.equal(ack.resumed, true);
      assert.equal(ack.participantId, a.seat.participantId);
      assert.equal(ack.meetingId, a.seat.meetingId);
      assert.equal(typeof ack.resumeToken, 'string');
      const noticed = b.log.findLastIndex((e) => e.event === 'participants-update'
        && byUser(e.payload.participants).get(a.userId)?.state === 'reconnecting');
      await b.roster((r) => r.get(a.userId)?.state === 'connected', { since: noticed });
      await back.fence(b);
      accepted(await b.signal('offer', a.userId, { type: 'offer', sdp: 'to the resumed' }));
      await back.seen('offer');
      assert.deepEqual(b.all('user-left', () => true, since), []);
      assert.deepEqual(b.all('user-joined', () => true, since), []);
    });

    test('a seat can be resumed again and again', async (t) => {
      const [first, b] = await people(t, patient, 2, { transport });
      let { resumeToken } = first.seat;
      let current = first;
      for (let round = 0; round < 3; round += 1) {
        current.drop();
        const next = await Client.connect(patient, { transport });
        t.after(() => next.close());
        const ack = await next.joinSession({ ...seatOf(first), resumeToken });
        assert.equal(ack.resumed, true);
        assert.equal(ack.participantId, first.seat.participantId);
        ({ resumeToken } = ack);
        current = next;
      }
      await current.fence(b);
    });

    test('a raised hand survives the gap', async (t) => {
      const [a, b] = await people(t, patient, 2, { transport });
      accepted(await a.emit('raise-hand', { raised: true }));
      a.drop();
      await b.roster((r) => r.get(a.userId)?.state === 'reconnecting');
      const back = await Client.join(patient, { transport }, { ...seatOf(a), resumeToken: a.seat.resumeToken });
      t.after(() => back.close());
      const since = b.log.findIndex((e) => e.event === 'participants-update'
        && byUser(e.payload.participants).get(a.userId)?.state === 'reconnecting');
      await b.roster((r) => r.get(a.userId)?.state === 'connected' && r.get(a.userId).handRaised, { since });
    });

    test('resuming while the old socket still seems alive takes the seat over', async (t) => {
      const [a, b] = await people(t, patient, 2, { transport });
      const back = await Client.join(patient, { transport }, { ...seatOf(a), resumeToken: a.seat.resumeToken });
      t.after(() => back.close());
      assert.equal(back.seat.resumed, true);
      assert.equal(back.seat.participantId, a.seat.participantId);
      accepted(await b.signal('offer', a.userId, { type: 'offer', sdp: 'x' }));
      await back.seen('offer');
      await back.fence(b);
      assert.deepEqual(a.all('offer'), [], 'one seat, one socket');
    });

    test('a wrong resume token resumes nothing', async (t) => {
      const [a] = await people(t, patient, 1, { transport });
      const [b] = await people(t, patient, 1, { transport });
      for (const resumeToken of ['wrong', 'x'.repeat(5_000), b.seat.resumeToken]) {
        const client = await Client.connect(patient, { transport });
        t.after(() => client.close());
        const ack = await client.emit('join-session', {
          sessionId: a.sessionId, userId: unique('thief'), userName: 'x', isInstructor: false, resumeToken,
        });
        if (ack.ok) {
          assert.equal(ack.resumed, false);
          assert.notEqual(ack.participantId, a.seat.participantId);
          assert.notEqual(ack.participantId, b.seat.participantId);
        } else {
          refused(ack, 'auth/invalid', 'auth/expired', 'request/invalid', 'session/forbidden');
        }
      }
      await Promise.all([a.fence(), b.fence()]);
    });

    test('the grace ends', async (t) => {
      const [a, b] = await people(t, hasty, 2, { transport });
      const since = b.mark();
      const dropped = Date.now();
      a.drop();
      await b.roster((r) => r.get(a.userId)?.state === 'reconnecting', { since });
      const left = await b.seen('user-left', (m) => m.userId === a.userId, { since });
      const after = Date.now() - dropped;
      t.diagnostic(`left ${after} ms after the drop`);
      assert.ok(after >= GRACE_MS, `left after ${after} ms`);
      assert.equal(left.participantId, a.seat.participantId);
      await b.roster((r) => !r.has(a.userId), { since: b.log.findIndex((e) => e.event === 'user-left') });
      const back = await Client.connect(hasty, { transport });
      t.after(() => back.close());
      const ack = await back.emit('join-session', {
        ...seatOf(a), userName: 'x', isInstructor: false, resumeToken: a.seat.resumeToken,
      });
      if (ack.ok) {
        assert.equal(ack.resumed, false);
        assert.notEqual(ack.participantId, a.seat.participantId);
      } else {
        refused(ack, 'auth/invalid', 'auth/expired', 'request/invalid', 'session/forbidden');
      }
    });

    test('the newest socket of a user wins', async (t) => {
      const [a, b] = await people(t, patient, 2, { transport });
      const since = b.mark();
      const second = await Client.join(patient, { transport }, seatOf(a));
      t.after(() => second.close());
      assert.equal(second.seat.resumed, false);
      const error = await a.seen('session-error');
      assert.equal(error.code, 'session/replaced');
      assert.equal(await disconnected(a), 'io server disconnect');
      assert.ok(a.log.findIndex((e) => e.event === 'session-error') < a.log.findIndex((e) => e.event === 'disconnect'));
      await second.fence(b);
      const watcher = await Client.join(patient, { transport }, { sessionId: a.sessionId, userId: unique('late') });
      t.after(() => watcher.close());
      const { participants } = await watcher.seen('participants-update');
      const seats = participants.filter((p) => p.userId === a.userId);
      assert.deepEqual(seats.map((p) => [p.participantId, p.state]), [[second.seat.participantId, 'connected']]);
      await second.fence(b, watcher);
      // Whether the others are told of the change or not, their last word on that seat is that it is there.
      const told = b.log.slice(since).filter((e) => ['user-left', 'user-joined'].includes(e.event)
        && e.payload.participantId === second.seat.participantId).map((e) => e.event);
      assert.notEqual(told.at(-1), 'user-left');
    });

    test('a plain client whose socket blinked joins again without a token', async (t) => {
      const [a, b] = await people(t, patient, 2, { transport });
      const since = b.mark();
      a.drop();
      await b.roster((r) => r.get(a.userId)?.state === 'reconnecting', { since });
      const back = await Client.join(patient, { transport }, seatOf(a));
      t.after(() => back.close());
      const noticed = b.log.findIndex((e, i) => i >= since && e.event === 'participants-update'
        && byUser(e.payload.participants).get(a.userId)?.state === 'reconnecting');
      await b.roster((r) => r.size === 2 && r.get(a.userId)?.state === 'connected', { since: noticed });
      await back.fence(b);
    });

    test('two parallel joins of one user end with one seat', async (t) => {
      const [watcher] = await people(t, patient, 1, { transport });
      const twins = await Promise.all([0, 1].map(() => Client.connect(patient, { transport })));
      t.after(() => twins.forEach((c) => c.close()));
      const userId = unique('twin');
      await Promise.allSettled(twins.map((c) => c.joinSession({ sessionId: watcher.sessionId, userId })));
      const loser = await Promise.race(twins.map((c) => c.seen('session-error').then(() => c)));
      assert.equal(await disconnected(loser), 'io server disconnect');
      const winner = twins.find((c) => c !== loser);
      await winner.fence(watcher);
      const late = await Client.join(patient, { transport }, { sessionId: watcher.sessionId, userId: unique('late') });
      t.after(() => late.close());
      const { participants } = await late.seen('participants-update');
      assert.equal(participants.filter((p) => p.userId === userId).length, 1);
      assert.equal(participants.find((p) => p.userId === userId).participantId, winner.seat.participantId);
      assert.equal(winner.socket.connected, true);
    });

    test('an early event is held until the join', async (t) => {
      const sessionId = unique('room');
      const [listener] = await people(t, patient, 1, { transport, sessionId });
      const early = await Client.connect(patient, { transport });
      t.after(() => early.close());
      const userId = unique('early');
      const said = ['one', 'two', 'three'].map((message) =>
        early.emit('chat-message', { sessionId, message, userId, userName: 'x' }));
      const offered = early.emit('offer', { sessionId, userId, targetUserId: listener.userId, offer: { type: 'offer', sdp: 'early' } });
      accepted(await listener.emit('reaction', { emoji: '🎉' })); // another's event is answered meanwhile; these wait for 2 s
      assert.deepEqual([...early.acksById], [], 'held, not answered');
      await early.joinSession({ sessionId, userId });
      for (const ack of await Promise.all([...said, offered])) accepted(ack);
      await listener.seen('offer', (m) => m.offer.sdp === 'early' && m.userId === userId);
      assert.deepEqual(listener.all('chat-message').map((m) => m.message), ['one', 'two', 'three'], 'in order');
    });

    test('without a join an early event is answered after about 2 s', async (t) => {
      const early = await Client.connect(patient, { transport });
      t.after(() => early.close());
      const start = Date.now();
      const common = { sessionId: unique('room'), userId: 'u', targetUserId: 'v' };
      early.emitOnly('track-update', { trackId: 'x', muted: true });
      const acks = await Promise.all([
        early.emit('chat-message', { ...common, message: 'x', userName: 'x' }),
        early.emit('offer', { ...common, offer: {} }),
        early.emit('raise-hand', { raised: true }),
        early.emit('reaction', { emoji: '👍' }),
        early.emit('subscription', { trackId: 'x', enabled: false }),
      ]);
      const took = Date.now() - start;
      for (const ack of acks) refused(ack, 'session/not_joined');
      t.diagnostic(`answered after ${took} ms`);
      assert.ok(took > 1_200, `answered after ${took} ms`);
      const error = await early.seen('session-error', (e) => e.event === 'track-update');
      assert.equal(error.code, 'session/not_joined');
    });

    test('a vanished client is noticed by its silence', { timeout: 120_000 }, async (t) => {
      const [watcher] = await people(t, hasty, 1, { transport });
      const userId = unique('vanished');
      const child = spawn(process.execPath,
        [join(import.meta.dirname, 'lib/vanish.mjs'), hasty.url, transport, watcher.sessionId, userId],
        { stdio: ['ignore', 'pipe', 'inherit'] });
      t.after(() => child.kill('SIGKILL'));
      const [line] = await once(child.stdout, 'data');
      accepted(JSON.parse(line));
      await watcher.roster((r) => r.get(userId)?.state === 'connected');
      const since = watcher.mark();
      child.kill('SIGKILL');
      await watcher.roster((r) => r.get(userId)?.state === 'reconnecting', { since, within: SILENCE_NOTICED_MS });
      await watcher.seen('user-left', (m) => m.userId === userId, { since });
    });
  });
}

test('a client that reconnects by itself keeps its seat, and its buffered emits arrive', async (t) => {
  const [b] = await people(t, patient, 1);
  const a = await Client.connect(patient, { reconnection: true, reconnectionDelay: 200, reconnectionDelayMax: 300 });
  t.after(() => a.close());
  const userId = unique('blinking');
  let joins = 0;
  const join = async () => {
    const token = a.seat?.resumeToken;
    await a.joinSession({ sessionId: b.sessionId, userId, ...(token ? { resumeToken: token } : {}) });
    joins += 1;
  };
  await join();
  const { participantId } = a.seat;
  const rejoined = new Promise((done, fail) => { a.socket.on('connect', () => join().then(done, fail)); });
  a.drop();
  await a.seen('disconnect');
  // Emitted while offline: flushed by the client before the application can join again.
  const buffered = a.chat('from the gap');
  await rejoined;
  accepted(await buffered);
  await b.seen('chat-message', (m) => m.message === 'from the gap' && m.userId === userId);
  assert.equal(joins, 2);
  assert.equal(a.seat.resumed, true);
  assert.equal(a.seat.participantId, participantId);
});
