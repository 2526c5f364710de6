// Every event, ack shape and error code that needs neither token nor store, over both transports.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { accepted, byUser, Client, people, refused, TRANSPORTS, unique } from './lib/client.mjs';
import { startServer } from './lib/server.mjs';

const ID = /^[A-Za-z0-9_-]{1,64}$/;
let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

function assertTime(ms) {
  assert.ok(Number.isInteger(ms) && Math.abs(ms - Date.now()) < 60_000, `${ms} is milliseconds since 1970`);
}

function assertRosterEntry(entry) {
  for (const field of ['userId', 'userName', 'role', 'participantId']) assert.equal(typeof entry[field], 'string', field);
  assert.equal(typeof entry.isInstructor, 'boolean');
  assert.equal(typeof entry.handRaised, 'boolean');
  assert.ok(['connected', 'reconnecting'].includes(entry.state), entry.state);
  assert.ok(Array.isArray(entry.tracks));
  assert.match(entry.participantId, ID);
}

for (const transport of TRANSPORTS) {
  describe(`events over ${transport}`, { concurrency: true }, () => {
    test('the ack of a join has every field', async (t) => {
      const sessionId = unique('room');
      const first = await Client.join(server, { transport }, { sessionId, userId: 'teacher', isInstructor: true });
      t.after(() => first.close());
      const second = await Client.join(server, { transport }, { sessionId, userId: 'pupil', userName: 'Pupil Näme' });
      t.after(() => second.close());
      const ack = second.seat;
      assert.equal(ack.sessionId, sessionId);
      assert.equal(ack.userId, 'pupil');
      assert.match(ack.meetingId, /^mtg_/);
      assert.match(ack.meetingId, ID);
      assert.equal(ack.meetingId, first.seat.meetingId);
      assert.match(ack.participantId, ID);
      assert.notEqual(ack.participantId, first.seat.participantId);
      assert.equal(typeof ack.role, 'string');
      assert.notEqual(ack.role, first.seat.role, 'open mode believes isInstructor');
      assert.ok(Array.isArray(ack.permissions.publish));
      for (const may of ['subscribe', 'chat', 'data', 'moderate']) assert.equal(typeof ack.permissions[may], 'boolean', may);
      assert.ok(Array.isArray(ack.iceServers));
      assert.equal(typeof ack.resumeToken, 'string');
      assert.ok(ack.resumeToken.length >= 20, 'a resume token cannot be guessed');
      assert.notEqual(ack.resumeToken, first.seat.resumeToken);
      assert.equal(ack.resumed, false);
      ack.participants.forEach(assertRosterEntry);
      const teacher = byUser(ack.participants).get('teacher');
      assert.equal(teacher.participantId, first.seat.participantId);
      assert.equal(teacher.isInstructor, true);
    });

    test('the roster goes to all, the joiner too', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      for (const reader of [a, b]) {
        const { participants } = await reader.seen('participants-update', (m) => m.participants.length === 2);
        participants.forEach(assertRosterEntry);
        assert.deepEqual(new Set(participants.map((p) => p.participantId)), new Set([a.seat.participantId, b.seat.participantId]));
        assert.ok(participants.every((p) => p.state === 'connected' && !p.handRaised && p.tracks.length === 0));
      }
      const joined = await a.seen('user-joined', (m) => m.userId === b.userId);
      assert.equal(joined.userName, `Name of ${b.userId}`);
      assert.equal(joined.isInstructor, false);
      assert.equal(joined.participantId, b.seat.participantId);
      assert.deepEqual(b.all('user-joined', (m) => m.userId === b.userId), [], 'only the others are told');
    });

    test('roster updates are coalesced to one per 100 ms', async (t) => {
      const [watcher] = await people(t, server, 1, { transport });
      const guests = await Promise.all(Array.from({ length: 12 }, () => Client.connect(server, { transport })));
      t.after(() => guests.forEach((g) => g.close()));
      const since = watcher.mark();
      const start = Date.now();
      await Promise.all(guests.map((g) => g.joinSession({ sessionId: watcher.sessionId, userId: unique('guest') })));
      await watcher.roster((r) => r.size === 13, { since });
      const times = watcher.log.slice(since).filter((e) => e.event === 'participants-update').map((e) => e.at);
      // From the first join on: one poll may bring several at once, so the times between arrivals say nothing.
      const most = Math.floor((times.at(-1) - start) / 100) + 2;
      assert.ok(times.length <= most, `${times.length} updates in ${times.at(-1) - start} ms`);
      await Promise.all(guests.map((g) => g.roster((r) => r.size === 13)));
    });

    test('offer, answer and ice-candidate are relayed unchanged but for userId', async (t) => {
      const [a, b, c] = await people(t, server, 3, { transport });
      const bodies = {
        offer: { type: 'offer', sdp: 'v=0\r\nnot really SDP: mesh is not looked into\r\n', deep: { kept: [1, null, 'ü'] } },
        answer: { type: 'answer', sdp: 'v=0\r\n' },
        'ice-candidate': { candidate: 'candidate:1 1 udp 1 x.local 9 typ host', sdpMid: '0', sdpMLineIndex: 0 },
      };
      for (const [kind, body] of Object.entries(bodies)) {
        const extra = { unknownField: { kept: true }, tracks: [{ mid: '0', source: 'camera' }] };
        accepted(await a.signal(kind, b.userId, body, { ...extra, userId: 'somebody else' }));
        const field = kind === 'ice-candidate' ? 'candidate' : kind;
        const got = await b.seen(kind);
        // Open mode may believe the claimed sender or overwrite it by the joined one; the joined one is what is meant.
        assert.deepEqual(got, { sessionId: a.sessionId, targetUserId: b.userId, userId: a.userId, [field]: body, ...extra });
      }
      accepted(await a.signal('ice-candidate', b.userId, null));
      await b.seen('ice-candidate', (m) => m.candidate === null);
      await a.fence(b, c);
      for (const kind of Object.keys(bodies)) {
        assert.deepEqual(c.all(kind), [], 'only the target is told');
        assert.deepEqual(a.all(kind), []);
      }
    });

    test('relay goes to members of the own session only', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      const [stranger] = await people(t, server, 1, { transport });
      refused(await a.signal('offer', 'nobody', { type: 'offer', sdp: '' }), 'session/unknown_target');
      refused(await a.signal('offer', stranger.userId, { type: 'offer', sdp: '' }), 'session/unknown_target');
      const across = await a.signal('offer', stranger.userId, { type: 'offer', sdp: '' }, { sessionId: stranger.sessionId });
      refused(across, 'session/not_joined', 'session/forbidden', 'session/unknown_target');
      const chatAcross = await a.chat('psst', { sessionId: stranger.sessionId });
      refused(chatAcross, 'session/not_joined', 'session/forbidden');
      await stranger.fence();
      assert.deepEqual(stranger.all('offer'), []);
      assert.deepEqual(stranger.all('chat-message', (m) => m.message === 'psst'), []);
      accepted(await a.signal('offer', b.userId, { type: 'offer', sdp: 'still works' }));
    });

    test('a mesh client gets no offer from the SFU', async (t) => {
      const [a, b] = await people(t, server, 2, { transport, join: { media: 'mesh' } });
      accepted(await a.signal('ice-candidate', b.userId, { candidate: 'x' }));
      await a.fence(b);
      for (const client of [a, b]) assert.deepEqual(client.all('offer', (m) => m.userId === 'sfu'), []);
    });

    test('"sfu" is no user', async (t) => {
      const client = await Client.connect(server, { transport });
      t.after(() => client.close());
      for (const userId of ['sfu', ' sfu ']) {
        const ack = await client.emit('join-session', { sessionId: unique('room'), userId, userName: 'x', isInstructor: false });
        refused(ack, 'request/invalid', 'session/forbidden');
      }
    });

    test('numbers are taken as strings, and names are trimmed', async (t) => {
      const number = Number(`${process.pid}${TRANSPORTS.indexOf(transport)}`);
      const a = await Client.join(server, { transport }, { sessionId: number, userId: 7, userName: 'seven' });
      const b = await Client.join(server, { transport }, { sessionId: `  ${number} `, userId: '\t bob ', userName: 'b' });
      t.after(() => { a.close(); b.close(); });
      assert.equal(a.seat.sessionId, String(number));
      assert.equal(a.seat.userId, '7');
      assert.equal(b.seat.sessionId, String(number));
      assert.equal(b.seat.userId, 'bob');
      await a.roster((r) => r.has('7') && r.has('bob'));
      accepted(await b.signal('offer', 7, { type: 'offer', sdp: 'x' }, { sessionId: number }));
      assert.equal((await a.seen('offer')).userId, 'bob');
    });

    test('ids have 1 to 128 characters and no control characters', async (t) => {
      const client = await Client.connect(server, { transport });
      t.after(() => client.close());
      const bad = ['', '   ', 'x'.repeat(129), 'a\u0000b', 'a\u001fb', 'a\nb', 'a\u007fb', null, true, {}, [], undefined];
      for (const id of bad) {
        const room = { sessionId: id, userId: 'u', userName: 'x', isInstructor: false };
        refused(await client.patient('join-session', room), 'request/invalid');
        const user = { sessionId: unique('room'), userId: id, userName: 'x', isInstructor: false };
        refused(await client.patient('join-session', user), 'request/invalid');
      }
      const longest = { sessionId: unique('é').padEnd(128, 'é'), userId: 'ü'.repeat(128), userName: 'x', isInstructor: false };
      const ack = accepted(await client.patient('join-session', longest));
      assert.equal(ack.sessionId, longest.sessionId);
      assert.equal(ack.userId, longest.userId);
    });

    test('chat reaches everyone, the sender too', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      const ack = accepted(await a.chat('grüß dich 👋 <b>', { clientId: 'c-1' }));
      assert.match(ack.id, ID);
      assertTime(ack.timestamp);
      for (const reader of [a, b]) {
        const got = await reader.seen('chat-message');
        assert.equal(got.sessionId, a.sessionId);
        assert.equal(got.id, ack.id);
        assert.equal(got.message, 'grüß dich 👋 <b>');
        assert.equal(got.userId, a.userId);
        assert.equal(typeof got.userName, 'string');
        assert.equal(got.clientId, 'c-1');
        assert.equal(got.timestamp, ack.timestamp);
      }
    });

    test('the same clientId twice is one message', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      const first = accepted(await a.chat('once', { clientId: 'same' }));
      const again = accepted(await a.chat('once', { clientId: 'same' }));
      assert.equal(again.id, first.id);
      assert.equal(again.timestamp, first.timestamp);
      const other = accepted(await b.chat('mine', { clientId: 'same' }));
      assert.notEqual(other.id, first.id, 'a clientId belongs to its user');
      await a.fence(b);
      assert.equal(b.all('chat-message', (m) => m.id === first.id).length, 1);
      assert.equal(a.all('chat-message', (m) => m.id === first.id).length, 1);
    });

    test('chat is limited to 4 kB', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      accepted(await a.chat('x'.repeat(4_000)));
      refused(await a.chat('x'.repeat(4_097)), 'request/invalid');
      refused(await a.chat('é'.repeat(2_100)), 'request/invalid');
      refused(await a.chat({ not: 'text' }), 'request/invalid');
      await a.fence(b);
      assert.equal(b.all('chat-message', (m) => m.userId === a.userId).length, 2, 'the good one and the fence');
    });

    test('hands have an order', async (t) => {
      const [a, b, c] = await people(t, server, 3, { transport, join: { isInstructor: true } });
      const positions = [];
      for (const member of [a, b, c]) positions.push(accepted(await member.emit('raise-hand', { raised: true })).position);
      assert.ok(Number.isInteger(positions[0]));
      assert.deepEqual(positions, [0, 1, 2].map((i) => positions[0] + i));
      const again = accepted(await b.emit('raise-hand', { raised: true }));
      assert.equal(again.position, positions[1], 'raising a raised hand keeps its place');
      await c.roster((r) => [a, b, c].every((m) => r.get(m.userId).handRaised));
      const raised = await a.seen('hand-raised', (m) => m.participantId === b.seat.participantId);
      assert.equal(raised.raised, true);
      const since = c.mark();
      accepted(await a.emit('raise-hand', { raised: false }));
      await c.roster((r) => !r.get(a.userId).handRaised && r.get(b.userId).handRaised, { since });
      const moved = accepted(await b.emit('raise-hand', { raised: true }));
      assert.equal(moved.position, positions[0], 'who waits moves up');
    });

    test('reactions reach the others', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      accepted(await a.emit('reaction', { emoji: '🎉' }));
      const got = await b.seen('reaction');
      assert.equal(got.emoji, '🎉');
      assert.equal(got.participantId, a.seat.participantId);
      for (const emoji of ['', 'x'.repeat(5_000), 5, null]) refused(await a.emit('reaction', { emoji }), 'request/invalid');
    });

    test('subscription and track-update need a track', async (t) => {
      const [a] = await people(t, server, 1, { transport });
      const unknown = ['request/invalid', 'session/unknown_target', 'media/not_permitted'];
      refused(await a.emit('subscription', { trackId: 'nothing', enabled: false }), ...unknown);
      refused(await a.emit('track-update', { trackId: 'nothing', muted: true }), ...unknown);
      refused(await a.emit('subscription', { enabled: true }), 'request/invalid');
      refused(await a.emit('subscription', { trackId: 'nothing', width: -1 }), 'request/invalid');
      refused(await a.emit('track-update', { trackId: 'nothing' }), 'request/invalid');
    });

    test('leave-session leaves at once and frees the socket', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      accepted(await a.emit('leave-session', { sessionId: a.sessionId }));
      const left = await b.seen('user-left');
      assert.equal(left.userId, a.userId);
      assert.equal(left.participantId, a.seat.participantId);
      assert.equal(typeof left.userName, 'string');
      assert.ok(typeof left.reason === 'string' && left.reason.length > 0);
      await b.roster((r) => !r.has(a.userId), { since: b.log.findIndex((e) => e.event === 'user-left') });
      refused(await a.chat('anybody?'), 'session/not_joined');
      const next = await a.joinSession({ sessionId: unique('next'), userId: a.userId });
      assert.equal(next.resumed, false);
    });

    test('one socket is in one session at a time', async (t) => {
      const [a] = await people(t, server, 1, { transport });
      const [b] = await people(t, server, 1, { transport });
      const guest = await Client.join(server, { transport }, { sessionId: a.sessionId, userId: unique('guest') });
      t.after(() => guest.close());
      await a.roster((r) => r.has(guest.userId));
      const sinceA = a.mark();
      const move = await guest.emit('join-session', { sessionId: b.sessionId, userId: guest.userId, userName: 'x', isInstructor: false });
      if (move.ok) {
        await b.roster((r) => r.has(guest.userId));
        await a.seen('user-left', (m) => m.userId === guest.userId, { since: sinceA });
      } else {
        refused(move, 'request/invalid', 'session/forbidden');
        await Promise.all([a.fence(guest), b.fence()]);
        assert.ok(b.all('user-joined').length === 0, 'refused is not joined');
      }
    });

    test('joining the joined session again keeps one seat', async (t) => {
      const [a, b] = await people(t, server, 2, { transport });
      await a.joinSession({ sessionId: a.sessionId, userId: a.userId });
      await a.fence(b);
      const late = await Client.join(server, { transport }, { sessionId: a.sessionId, userId: unique('late') });
      t.after(() => late.close());
      const { participants } = await late.seen('participants-update');
      assert.equal(participants.filter((p) => p.userId === a.userId).length, 1);
    });

    test('SDP that is none is refused', async (t) => {
      const [a] = await people(t, server, 1, { transport, join: { media: 'sfu' } });
      const bad = ['', 'nonsense', 'v=0\r\nm=\r\n', `v=0\r\n${'a=x\r\n'.repeat(20_000)}`, 'v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 X 999\r\n'];
      const offers = [...bad.map((sdp) => ({ type: 'offer', sdp })), null, 'text', 5, {}, { type: 'offer' }, { type: 'offer', sdp: 7 }];
      for (const offer of offers) {
        const since = a.mark();
        const ack = await a.signal('offer', 'sfu', offer);
        // Either the ack says it, or, when SDP is read only after it was accepted for processing, a session-error does.
        if (ack.ok) await a.seen('session-error', (e) => e.code === 'media/invalid_sdp' && e.event === 'offer', { since });
        else refused(ack, 'media/invalid_sdp', 'request/invalid');
      }
      // An answer that nobody asked for may be ignored; it is acked, and the session goes on.
      const stray = await a.signal('answer', 'sfu', { type: 'answer', sdp: 'nonsense' });
      if (!stray.ok) refused(stray, 'media/invalid_sdp', 'media/new_peer_required', 'request/invalid');
      await a.fence();
    });

    test('what had no ack is answered by session-error', async (t) => {
      const [a] = await people(t, server, 1, { transport });
      a.emitOnly('chat-message', { sessionId: a.sessionId, message: 'x'.repeat(5_000), userId: a.userId });
      const error = await a.seen('session-error', (e) => e.event === 'chat-message');
      assert.equal(error.code, 'request/invalid');
      assert.equal(typeof error.message, 'string');
      a.emitOnly('offer', { sessionId: a.sessionId, userId: a.userId, targetUserId: 'nobody', offer: {} });
      assert.equal((await a.seen('session-error', (e) => e.event === 'offer')).code, 'session/unknown_target');
    });

    test('unknown events and malformed payloads get one refusal each', async (t) => {
      const [a] = await people(t, server, 1, { transport });
      refused(await a.emit('no-such-event', {}), 'request/invalid');
      refused(await a.emit('no-such-event'), 'request/invalid');
      refused(await a.emit('', {}), 'request/invalid');
      const deep = JSON.parse('[{"x":'.repeat(50) + '1' + '}]'.repeat(50));
      const payloads = [['text'], [null], [[]], [42], [deep], [{}], [], [true], [[[]], {}, 3]];
      const events = ['join-session', 'offer', 'answer', 'ice-candidate', 'chat-message', 'subscription', 'track-update',
        'raise-hand', 'reaction'];
      for (const event of events) {
        for (const payload of payloads) {
          refused(await a.patient(event, ...payload), 'request/invalid', 'session/unknown_target');
        }
      }
      await a.fence();
      // `close`, after the test, finds any ack that was given twice.
    });
  });
}

test('a large room hears one roster a second, and changes one by one', { timeout: 180_000 }, async (t) => {
  const sessionId = unique('hall');
  const hall = [];
  t.after(() => hall.forEach((c) => c.close()));
  // Several source addresses, lest a cap per address be met.
  for (let batch = 0; batch < 11; batch += 1) {
    hall.push(...await Promise.all(Array.from({ length: 10 }, (_, i) =>
      Client.join(server, { from: `127.0.0.${20 + i}` }, { sessionId, userId: unique('seat') }))));
  }
  const watcher = hall[0];
  await watcher.roster((r) => r.size === 110);
  hall.push(await Client.join(server, {}, { sessionId, userId: unique('seat') }));
  const since = watcher.mark();
  const start = Date.now();
  const movers = hall.slice(1, 6);
  // From a fresh roster on, the next one is a second away.
  await watcher.seen('participants-update', () => true, { since });
  for (const mover of movers) accepted(await mover.emit('raise-hand', { raised: true }));
  await watcher.roster((r) => movers.every((m) => r.get(m.userId)?.handRaised), { since });
  // The payload is one entry of the roster. A change that falls together with a whole roster needs none, but five cannot all.
  const changes = watcher.all('participant-updated', () => true, since);
  changes.forEach(assertRosterEntry);
  const changed = changes.filter((p) => p.handRaised).map((p) => p.participantId);
  assert.ok(movers.some((m) => changed.includes(m.seat.participantId)), 'changes come one by one between the rosters');
  const times = watcher.log.slice(since).filter((e) => e.event === 'participants-update').map((e) => e.at);
  // From the start on: what a busy machine brings late comes at once, so the times between arrivals say nothing.
  const most = Math.floor((times.at(-1) - start) / 1_000) + 2;
  assert.ok(times.length <= most, `${times.length} rosters in ${times.at(-1) - start} ms`);
});
