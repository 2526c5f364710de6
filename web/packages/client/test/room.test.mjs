// A call against a server and a peer connection that do what the test says.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LiveRoom } from '../dist/room.js';
import { Box } from '../dist/store.js';
import { FakePeer, FakeSocket, FakeTrack, settled } from './fakes.mjs';

const EVERYTHING = { publish: ['camera', 'microphone', 'screen', 'screen-audio'], subscribe: true, chat: true, data: true, moderate: false };
const person = (participantId, tracks = [], more = {}) => ({
  participantId, userId: `u-${participantId}`, userName: participantId, isInstructor: false, role: 'participant', state: 'connected', handRaised: false,
  tracks: tracks.map(([source, muted = false]) => ({ trackId: `${participantId}-${source}`, kind: /mic|audio/.test(source) ? 'audio' : 'video', source, muted })),
  ...more,
});
const seat = (more = {}) => ({
  ok: true, sessionId: 'algebra', meetingId: 'mtg_1', userId: 'u-me', participantId: 'me', role: 'participant', permissions: EVERYTHING,
  participants: [person('me')], iceServers: [], resumeToken: 'resume-1', resumed: false, metadata: null, locked: false, ...more,
});

/** A room, and the two ends that it stands on. `answers`: what the server acknowledges events with. */
function open(t, options = {}, answers = {}) {
  const world = { sockets: [], peers: [], refused: [], seats: [], answers: { 'join-session': seat(), ...answers } };
  const room = world.room = new LiveRoom({ url: 'http://x', sessionId: 'algebra', userName: 'Ada', ...options }, {
    io: (_, asked) => world.sockets[world.sockets.push(new FakeSocket(asked, world.answers)) - 1],
    peer: (...args) => world.peers[world.peers.push(new FakePeer(...args)) - 1],
  });
  room.on('refused', (code) => world.refused.push(code));
  room.on('seat', (now) => world.seats.push(now));
  t.after(() => room.leave());
  return Object.defineProperties(world, {
    socket: { get: () => world.sockets.at(-1) },
    peer: { get: () => world.peers.at(-1) },
    state: { get: () => room.state },
  });
}

/** Devices that are on from the beginning. */
class FakeMedia extends Box {
  log = [];
  constructor() {
    super({ camera: new FakeTrack('video'), microphone: new FakeTrack('audio'), microphoneOn: true, screen: null, screenAudio: null, faults: {} });
  }
  setCamera(on) { this.log.push(`camera ${on}`); this.set({ camera: on ? new FakeTrack('video') : null }); }
  setMicrophone(on) { this.log.push(`microphone ${on}`); this.set({ microphoneOn: on }); }
  close(what) {
    this.log.push(`close ${what}`);
    this.set({ [what]: null, ...(what === 'microphone' && { microphoneOn: false }) });
  }
  setScreen(on) {
    if (on || this.state.screen) this.log.push(`screen ${on}`);
    this.set(on ? { screen: new FakeTrack('video'), screenAudio: new FakeTrack('audio') } : { screen: null, screenAudio: null });
  }
}

test('a join: the state says who one is, who is there and what was said', (t) => {
  const chat = [{ id: 'm1', userId: 'u-bob', userName: 'Bob', message: 'hi', timestamp: 1 }];
  const world = open(t, { isInstructor: true }, { 'join-session': seat({ chat, locked: true, participants: [person('bob', [['camera']]), person('me')] }) });
  assert.deepEqual([world.state.status, world.state.role, world.state.permissions.moderate], ['idle', 'instructor', true]);
  const statuses = [];
  world.room.subscribe(() => statuses.at(-1) === world.state.status || statuses.push(world.state.status));
  world.room.join();
  world.room.join(); // pressed twice
  assert.equal(world.sockets.length, 1);
  const { status, ownId, meetingId, rules, messages, participants } = world.state;
  assert.deepEqual([status, ownId, meetingId, rules.locked, messages, participants.length], ['joined', 'me', 'mtg_1', true, chat, 2]);
  assert.deepEqual(statuses, ['connecting', 'joined']);
  const [asked] = world.socket.of('join-session');
  assert.deepEqual([asked.userName, asked.media, asked.isInstructor], ['Ada', 'sfu', true]);
  assert.deepEqual(world.seats, [{ resumeToken: 'resume-1', origin: '' }]);
  world.peer.events.origin('42');
  assert.deepEqual(world.seats.at(-1), { resumeToken: 'resume-1', origin: '42' });
});

test('a connection that is prepared waits for the join, says nothing of itself, and takes who joins after all', (t) => {
  const world = open(t, { sessionId: '', userName: '' });
  world.room.prepare();
  world.room.prepare();
  assert.deepEqual([world.sockets.length, world.socket.connected, world.state.status, world.socket.sent], [1, true, 'idle', []]);
  world.room.join({ sessionId: 'algebra', userName: 'Ada' });
  assert.deepEqual([world.sockets.length, world.state.status, world.state.sessionId], [1, 'joined', 'algebra']);
  const [asked] = world.socket.of('join-session');
  assert.deepEqual([asked.sessionId, asked.userName], ['algebra', 'Ada']);
  world.room.leave();

  const lost = open(t);
  lost.room.prepare();
  lost.socket.hear('session-error', { code: 'auth/expired', message: '', event: 'connect' });
  lost.socket.drop('io server disconnect');
  assert.deepEqual([lost.state.status, lost.state.reason], ['idle', '']);
  lost.room.join();
  assert.deepEqual([lost.sockets.length, lost.state.status], [1, 'joined']);

  const unused = open(t);
  unused.room.prepare();
  unused.room.leave();
  assert.deepEqual([unused.socket.connected, unused.socket.sent], [false, []]);
});

test('the offer is made while one looks into the mirror, anew when something else is published, and goes with the join', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media, sessionId: '', channels: ['board'] }, { 'join-session': 'later' });
  world.room.prepare();
  assert.deepEqual([world.peers.length, world.peer.log, world.socket.sent], [1, ['publish microphone', 'publish camera', 'prepare'], []]);
  media.setMicrophone(false);
  assert.deepEqual([world.peers.length, world.peer.log.at(-1)], [1, 'mute microphone'], 'the same offer will do');
  media.setCamera(false);
  assert.deepEqual([world.peers.length, world.peers[0].closed, world.peer.log], [2, true, ['publish microphone muted', 'prepare']]);
  media.setCamera(true);
  world.room.join({ sessionId: 'algebra' });
  world.socket.late[0](seat());
  assert.deepEqual([world.peers.length, world.peers[1].closed, world.peer.log], [3, true, ['publish microphone muted', 'publish camera', 'prepare', 'ahead', 'start']]);
  assert.deepEqual(world.peer.channels.map(({ label }) => label), ['board']);
  world.peer.events.send('offer', { offer: {} });
  assert.equal(world.socket.of('offer').at(-1).sessionId, 'algebra');
  world.room.leave();
  assert.ok(world.peer.closed);

  const relayed = open(t, { media: new FakeMedia(), relay: '1' });
  relayed.room.prepare();
  assert.equal(relayed.peers.length, 0, 'nothing is offered before it is known which TURN servers there are');
});

test('what is published is offered together with the join, and once more only if that was refused', (t) => {
  const prompt = open(t, { media: new FakeMedia() }, { 'join-session': 'later' });
  prompt.room.join();
  assert.deepEqual([prompt.state.status, prompt.peer.log], ['connecting', ['publish microphone', 'publish camera', 'ahead']]);
  prompt.socket.late[0](seat({ iceServers: [{ urls: 'turn:x' }] }));
  assert.deepEqual([prompt.state.status, prompt.peers.length, prompt.peer.log.at(-1)], ['joined', 1, 'start']);
  assert.deepEqual(prompt.peer.iceServers, [{ urls: 'turn:x' }]);

  const waits = open(t, { media: new FakeMedia() }, { 'join-session': 'later', offer: { ok: false, error: { code: 'session/not_joined' } } });
  waits.room.join();
  waits.peer.events.send('offer', {});
  waits.socket.late[0](seat());
  assert.deepEqual([waits.state.status, waits.peers.length, waits.peers[0].closed, waits.peer.log], ['joined', 2, true, ['publish microphone', 'publish camera']]);
  assert.deepEqual([waits.refused, waits.socket.of('join-session').length], [[], 1], 'and nobody is told');

  const cut = open(t, { media: new FakeMedia() }, { 'join-session': 'later' });
  cut.room.join();
  cut.socket.drop('transport close');
  assert.ok(cut.peer.closed);
  cut.socket.connect();
  cut.socket.late[1](seat());
  assert.deepEqual([cut.state.status, cut.peers.length, cut.peer.log.at(-1)], ['joined', 2, 'start']);
});

test('what the devices give is published, and what becomes of them is followed', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media });
  world.room.join();
  assert.deepEqual(world.peer.log, ['publish microphone', 'publish camera']);
  world.peer.log = [];
  world.socket.hear('participants-update', { participants: [person('me', [['camera'], ['microphone']])] });
  media.setMicrophone(false);
  media.setCamera(false);
  media.setScreen(true);
  media.setScreen(false);
  media.setCamera(true);
  assert.deepEqual(world.peer.log, ['mute microphone', 'pause camera', 'publish screen', 'publish screen-audio', 'unpublish screen', 'unpublish screen-audio', 'publish camera']);
  assert.deepEqual(world.socket.of('track-update').map(({ trackId, muted }) => `${trackId} ${muted}`), ['me-microphone true', 'me-camera true', 'me-camera false']);
});

test('what is not permitted is taken back, and not sent when it is turned on', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media });
  world.room.join();
  media.log = [];
  const permissions = { ...EVERYTHING, publish: ['microphone'], data: false };
  world.socket.hear('permissions', { participantId: 'me', role: 'observer', permissions });
  assert.deepEqual([media.log, world.state.role, [...world.peer.published.keys()]], [['close camera'], 'observer', ['microphone']]);
  media.setCamera(true);
  assert.deepEqual([media.log.slice(1), [...world.peer.published.keys()]], [['camera true', 'close camera'], ['microphone']]);
  world.room.send('data', 'x');
  assert.deepEqual(world.refused, ['session/forbidden']);
  world.socket.hear('permissions', { participantId: 'me', role: 'participant', permissions: EVERYTHING });
  media.setCamera(true);
  assert.ok(world.peer.published.has('camera'));
});

test('a moderator turns off what is on, and turns nothing on', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media });
  world.room.join();
  media.setScreen(true);
  media.log = [];
  const done = [];
  world.room.on('moderated', ({ action }) => done.push(action));
  world.socket.hear('moderated', { action: 'mute', source: 'camera', by: 'u-teacher' });
  assert.deepEqual(media.log.splice(0), ['camera false']);
  world.socket.hear('moderated', { action: 'ask-unmute', source: 'camera' });
  world.socket.hear('moderated', { action: 'lower-hands' });
  assert.deepEqual(media.log.splice(0), []);
  world.socket.hear('moderated', { action: 'mute' });
  assert.deepEqual(media.log.splice(0), ['microphone false', 'screen false']);
  assert.deepEqual(done, ['mute', 'ask-unmute', 'lower-hands', 'mute']);
});

test('waiting to be let in, and letting in', (t) => {
  const world = open(t, {}, { 'join-session': null });
  world.room.join();
  world.socket.hear('waiting', { sessionId: 'algebra', position: 3 });
  assert.equal(world.state.status, 'waiting');
  world.socket.drop('transport close');
  assert.equal(world.state.status, 'connecting');
  world.answers['join-session'] = seat({ permissions: { ...EVERYTHING, moderate: true } });
  world.socket.connect();
  assert.equal(world.state.status, 'joined');
  const waiting = [{ waitingId: 'w', userId: 'u', userName: 'Eve' }];
  world.socket.hear('waiting', { participants: waiting });
  assert.deepEqual([world.state.status, world.state.waiting], ['joined', waiting]);
  world.socket.hear('permissions', { role: 'participant', permissions: EVERYTHING });
  assert.deepEqual(world.state.waiting, []);
});

test('a socket that is cut: the same seat, the same media, and what was known of lines is forgotten', (t) => {
  const world = open(t, { seat: { resumeToken: 'before', origin: '7' } }, { 'join-session': (body) => seat({ resumed: true, resumeToken: `${body.resumeToken}+` }) });
  world.room.join();
  assert.deepEqual([world.peer.stale, world.peer.log], ['7', ['hello']]);
  world.socket.hear('participants-update', { participants: [person('me'), person('bob', [['camera']])] });
  world.socket.hear('participant-updated', person('cleo'));
  assert.deepEqual(world.state.participants.map((one) => one.participantId), ['me', 'bob', 'cleo'], 'of large sessions the whole roster comes seldom');
  world.socket.hear('user-left', { participantId: 'cleo' });
  world.socket.hear('track-paused', { trackId: 'bob-camera', reason: 'bandwidth' });
  world.socket.hear('connection-quality', { participantId: 'bob', score: 1 });
  assert.deepEqual([[...world.state.paused], world.state.qualities.get('bob').score], [['bob-camera'], 1]);
  world.answers['join-session'] = (body) => seat({ resumed: true, resumeToken: `${body.resumeToken}+`, participants: [person('me'), person('bob', [['camera']])] });
  world.socket.drop('transport close');
  assert.deepEqual([world.state.status, world.state.participants.length], ['reconnecting', 2]);
  world.socket.connect();
  assert.deepEqual([world.state.status, world.peers.length, world.peer.log.at(-1)], ['joined', 1, 'resume']);
  assert.deepEqual([world.state.paused.size, world.state.qualities.size], [0, 0]);
  assert.deepEqual(world.seats.map(({ resumeToken }) => resumeToken), ['before+', 'before++']);
});

test('media that stops: where the socket answers it is let be, where it does not both are sought anew, in the same seat', (t) => {
  const world = open(t, {}, { 'join-session': ({ resumeToken }) => seat({ resumed: resumeToken !== undefined }) });
  world.room.join();
  const ask = (answer, isAdrift = true) => {
    world.answers['ice-candidate'] = answer;
    world.peer.isAdrift = isAdrift;
    world.peer.log = [];
    world.peer.events.adrift(20);
    world.socket.late.splice(0).forEach((pass) => pass());
    t.mock.timers.tick(300);
    return world.peer.log;
  };
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  assert.deepEqual(ask({ ok: true }), ['mend']);
  assert.deepEqual(ask('lost', false), [], 'it came again meanwhile');
  assert.equal(world.socket.of('join-session').length, 1);
  assert.deepEqual(ask('lost'), ['resume elsewhere']);
  assert.deepEqual([world.socket.of('join-session').length, world.peers.length, world.state.status], [2, 1, 'joined']);
  assert.deepEqual(ask('lost'), [], 'a server that stands still now and then is not joined again each time');
  t.mock.timers.tick(10_000);
  assert.deepEqual(ask('lost'), ['resume elsewhere']);
  t.mock.timers.tick(10_000);
  assert.deepEqual(ask('lost'), [], 'ever more seldom');
  assert.equal(world.socket.of('join-session').length, 3);

  world.answers['join-session'] = null;
  world.socket.drop('transport close');
  assert.deepEqual(ask({ ok: true }), []);
  assert.equal(world.socket.of('join-session').length, 4, 'a socket that is to be opened is opened at once');
  ask({ ok: true });
  assert.equal(world.socket.of('join-session').length, 4, 'once');
});

test('a browser that is online again: another socket, other paths', (t) => {
  const world = open(t, {}, { 'join-session': ({ resumeToken }) => seat({ resumed: resumeToken !== undefined }) });
  const [heard, before] = [new EventTarget(), globalThis.addEventListener];
  globalThis.addEventListener = heard.addEventListener.bind(heard);
  t.after(() => { globalThis.addEventListener = before; });
  world.room.join();
  heard.dispatchEvent(new Event('online'));
  assert.deepEqual([world.peer.log, world.socket.of('join-session').length, world.state.status], [['resume elsewhere'], 2, 'joined']);
  world.room.wake();
  assert.equal(world.socket.of('join-session').length, 2);

  t.mock.timers.enable({ apis: ['setTimeout'] });
  world.socket.drop('transport close');
  world.socket.hear('connect_error', new Error('there is no route yet'));
  t.mock.timers.tick(200);
  assert.equal(world.socket.of('join-session').length, 3, 'it is tried again soon');
});

test('a page that went away and lives on after all goes on as after a reload', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media });
  world.room.join();
  world.peer.events.origin('42');
  const [first] = world.peers;
  world.answers['join-session'] = seat({ resumed: true });
  world.room.abandon();
  assert.deepEqual([first.closed, world.state.status], [true, 'reconnecting']);
  world.room.wake();
  assert.deepEqual([world.peers.length, world.peer.stale, world.peer.log, world.state.status], [2, '42', ['publish microphone', 'publish camera'], 'joined']);
});

test('how a call ends: a code, an empty room, and one may join again', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media });
  world.room.join();
  media.setScreen(true);
  world.socket.hear('participants-update', { participants: [person('me'), person('bob', [['camera']])] });
  world.socket.hear('chat-message', { id: 'm1', userId: 'u', userName: 'U', message: 'hi', timestamp: 1 });
  world.socket.hear('session-error', { code: 'session/replaced', message: '' });
  const { status, reason, participants, messages } = world.state;
  assert.deepEqual([status, reason, participants, messages.length, media.state.screen], ['ended', 'session/replaced', [], 1, null]);
  assert.equal(world.peer.closed, true);
  media.setCamera(true); // nobody follows any more
  assert.equal(world.peer.log.includes('pause camera'), false);
  world.room.join();
  assert.deepEqual([world.state.status, world.state.messages, world.sockets.length], ['joined', [], 2]);
  world.room.leave();
  assert.deepEqual([world.state.status, world.state.reason], ['ended', '']);
  assert.equal(world.socket.of('leave-session').length, 1);
});

test('joining again, one begins as one came in: the last call\'s permissions close no device', (t) => {
  const media = new FakeMedia();
  const world = open(t, { media });
  world.room.join();
  world.socket.hear('permissions', { role: 'observer', permissions: { ...EVERYTHING, publish: [] } });
  world.room.leave();
  media.setCamera(true);
  media.log = [];
  world.answers['join-session'] = null; // the server thinks about it
  world.room.join();
  assert.deepEqual([world.state.role, world.state.permissions.publish.length, media.log], ['participant', 4, []]);
});

test('refusals: for ever, for a while, and of one thing asked', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const world = open(t, {}, { 'join-session': { ok: false, error: { code: 'server/overloaded' } }, 'raise-hand': { ok: false, error: { code: 'rate/limited' } } });
  world.room.join();
  assert.deepEqual([world.state.status, world.state.reason, world.refused], ['connecting', 'server/overloaded', ['server/overloaded']]);
  world.answers['join-session'] = seat();
  t.mock.timers.tick(3_000);
  assert.deepEqual([world.state.status, world.state.reason], ['joined', '']);
  assert.equal(await world.room.raiseHand(true), 'rate/limited');
  assert.equal(await world.room.say('hello'), '');
  assert.equal(await world.room.moderate({ action: 'lock' }), '');
  world.room.leave();
  assert.equal(await world.room.say('hello'), 'session/not_joined');
  world.answers['join-session'] = { ok: false, error: { code: 'session/full' } };
  world.room.join();
  assert.deepEqual([world.state.status, world.state.reason], ['ended', 'session/full']);
});

test('refusals of the connection itself', (t) => {
  const world = open(t, {}, { 'join-session': null });
  world.room.join();
  world.socket.drop('transport error');
  world.socket.hear('connect_error', new Error('websocket error'));
  assert.deepEqual([world.state.status, world.state.reason], ['connecting', 'server/unreachable']);
  world.socket.hear('connect_error', new Error('auth/expired'));
  assert.deepEqual([world.state.status, world.state.reason], ['ended', 'auth/expired']);
});

test('a token: the renewed one next time, or asked for each time, or the last one where nobody gives one', async (t) => {
  const fixed = open(t, { token: 'first' });
  fixed.room.join();
  await settled();
  const renewals = [];
  fixed.room.on('token', (token) => renewals.push(token));
  fixed.socket.hear('token', { token: 'second' });
  fixed.socket.drop('transport close');
  fixed.socket.connect();
  await settled();
  assert.deepEqual([fixed.socket.given, renewals], [{ token: 'second' }, ['second']]);

  let count = 0;
  const asked = open(t, { token: async () => { if (++count > 2) throw new Error('away'); return `t${count}`; } });
  t.mock.method(console, 'warn', () => {});
  asked.room.join();
  const given = [];
  for (let times = 0; times < 3; times++) {
    await settled();
    given.push(asked.socket.given.token);
    asked.socket.drop('transport close');
    asked.socket.connect();
  }
  assert.deepEqual(given, ['t1', 't2', 't2']);
});

test('while nobody has given a token yet, no connection is made: it is tried again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  t.mock.method(console, 'warn', () => {});
  let count = 0;
  const world = open(t, { token: () => { if (++count < 3) throw new Error('away'); return `t${count}`; } });
  world.room.join();
  await settled();
  for (const tries of [1, 2]) {
    assert.deepEqual([count, world.socket.given, world.state.status, world.state.reason], [tries, undefined, 'connecting', 'server/unreachable']);
    t.mock.timers.tick(3_000);
    await settled();
  }
  assert.deepEqual([count, world.socket.given, world.state.status, world.state.reason], [3, { token: 't3' }, 'joined', '']);
});

test('before the server says what is permitted, the token does', (t) => {
  const token = `x.${Buffer.from(JSON.stringify({ sub: 'u-1', name: 'Ann', role: 'observer' })).toString('base64url')}.y`;
  const { state } = open(t, { token });
  assert.deepEqual([state.role, state.permissions.publish, state.permissions.chat], ['observer', [], false]);
});

test('tracks that cannot be shown are named until they come, or their owner stops them', (t) => {
  const world = open(t);
  world.room.join();
  world.socket.hear('participants-update', { participants: [person('me'), person('bob', [['camera'], ['screen']])] });
  world.socket.hear('track-unavailable', { trackId: 'bob-camera', reason: 'limit' });
  world.socket.hear('track-unavailable', { trackId: 'bob-screen', reason: 'codec' });
  assert.deepEqual([...world.state.unavailable], [['bob-camera', 'limit'], ['bob-screen', 'codec']]);
  world.peer.events.remoteTracks([{ mid: '0', trackId: 'bob-camera', participantId: 'bob', source: 'camera', track: {} }]);
  assert.deepEqual([...world.state.unavailable.keys()], ['bob-screen']);
  world.socket.hear('participants-update', { participants: [person('me'), person('bob', [['camera']])] });
  assert.equal(world.state.unavailable.size, 0);
});

test('hands, speakers, rules, reactions, and a server that is about to restart', (t) => {
  const world = open(t);
  const events = [];
  world.room.on('reaction', ({ emoji }) => events.push(emoji));
  world.room.on('draining', (deadline) => events.push(deadline));
  world.room.join();
  world.socket.hear('participants-update', { participants: [person('me'), person('bob'), person('cleo')] });
  world.socket.hear('hand-raised', { participantId: 'cleo', userId: 'u-cleo', raised: true, position: 1 });
  world.socket.hear('hand-raised', { participantId: 'bob', userId: 'u-bob', raised: true, position: 2 });
  world.socket.hear('active-speakers', { speakers: [{ participantId: 'bob', level: 90 }] });
  world.socket.hear('session-updated', { sessionId: 'algebra', locked: true, chat: false, capacity: 5 });
  world.socket.hear('reaction', { participantId: 'bob', userId: 'u-bob', emoji: '👏' });
  world.socket.hear('server-draining', { deadline: 99 });
  const { hands, speakers, rules } = world.state;
  assert.deepEqual([hands, speakers, rules.locked, rules.chat, rules.video, events], [['cleo', 'bob'], ['bob'], true, false, true, ['👏', 99]]);
  world.socket.hear('user-left', { participantId: 'cleo' });
  assert.deepEqual(world.state.hands, ['bob']);
});

test('data: channels open with the first listener, and again with another connection', (t) => {
  const world = open(t, { channels: ['board'] });
  world.room.join();
  assert.deepEqual(world.peer.channels.map(({ label }) => label), ['board']);
  const heard = [];
  world.room.on('data', (what) => heard.push(what));
  world.peer.channels[1].onmessage({ data: 'bob\nhello' });
  assert.deepEqual(heard, [{ label: 'data', from: 'bob', data: 'hello' }]);
  world.socket.hear('session-error', { code: 'media/new_peer_required', message: '' });
  assert.deepEqual([world.peers.length, world.peer.channels.map(({ label }) => label)], [2, ['board', 'data', 'data-lossy']]);
});

test('audio only is kept over calls, and asks for no picture', (t) => {
  const world = open(t, {}, { 'join-session': seat({ participants: [person('me', [['camera']]), person('bob', [['camera'], ['microphone']])] }) });
  world.room.setAudioOnly(true);
  world.room.join();
  assert.deepEqual(world.socket.of('subscription'), [{ trackId: 'bob-camera', enabled: false }]);
  world.room.leave();
  world.room.join();
  assert.deepEqual(world.socket.of('subscription'), [{ trackId: 'bob-camera', enabled: false }]);
  world.room.setAudioOnly(false);
  assert.deepEqual(world.socket.of('subscription').at(-1), { trackId: 'bob-camera', enabled: true });
});

test('layers that nobody watches are turned off at the source that they are of', (t) => {
  const world = open(t, { media: new FakeMedia() });
  world.room.join();
  world.socket.hear('participants-update', { participants: [person('me', [['camera']])] });
  world.socket.hear('layers-wanted', { trackId: 'me-camera', layers: [{ rid: 'q', active: true }, { rid: 'f', active: false }] });
  assert.equal(world.peer.log.at(-1), 'layers camera 10');
});
