// What needs neither a browser nor a server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Channels, MESSAGE_BYTES_MAX, RECIPIENTS_MAX, framed, unframed } from '../dist/channels.js';
import { Flow } from '../dist/flow.js';
import { loudness } from '../dist/meter.js';
import { MESSAGES_MAX, beginning, sameTracks, withHand, withMember, withMessages, withRoster, withRules } from '../dist/snapshot.js';
import { Stats } from '../dist/stats.js';
import { Box, Emitter } from '../dist/store.js';
import { claimsOf, permissionsOf, randomId } from '../dist/token.js';
import { Wishes } from '../dist/wishes.js';
import { isCode, wordsFor } from '../dist/words.js';

const person = (participantId, handRaised = false, tracks = []) => ({
  participantId, userId: participantId, userName: participantId, isInstructor: false, role: 'participant', state: 'connected', handRaised,
  tracks: tracks.map((trackId) => ({ trackId, kind: 'video', source: 'camera', muted: false })),
});
const start = () => beginning('s', 'participant', permissionsOf('participant'));

test('every code has its words, and a code of tomorrow is shown as it is', () => {
  for (const code of ['auth/expired', 'session/full', 'server/draining', 'server/unreachable', 'internal', 'browser/unsupported']) {
    assert.ok(isCode(code) && !wordsFor(code).includes(code), code);
  }
  assert.equal(wordsFor('session/asleep'), 'The call ended (session/asleep).');
  assert.equal(wordsFor(''), 'You left the call.');
  assert.equal(isCode('websocket error'), false);
});

test('what flows and stops is noticed within half a second, once; what comes now and then is not waited for', () => {
  /** When it was said that a flow stopped, if something came in the looks of which `comes` says so. */
  const stops = (comes, flow = new Flow()) => {
    const said = [];
    for (let now = 0; now < 10_000; now += 150) if (flow.note(comes(now), now)) said.push(now);
    return said;
  };
  const [stop] = stops((now) => now < 3_000);
  assert.ok(stop > 3_000 && stop <= 3_450, `${stop}`);
  assert.equal(stops((now) => now < 3_000).length, 1);
  assert.deepEqual([stops(() => true), stops(() => false)], [[], []]);
  assert.deepEqual(stops((now) => now % 450 === 0), [], 'somebody who is silent');
  assert.deepEqual(stops((now) => now % 900 < 600), [], 'words between pauses');
  assert.equal(stops((now) => now % 5_000 < 2_500).length, 2, 'it may flow again, and stop again');
  const late = new Flow();
  stops(() => true, late);
  assert.deepEqual([late.note(false, 11_000), late.note(false, 11_150)], [false, true], 'a look that comes late itself says nothing alone');
  const flow = new Flow();
  stops((now) => now < 3_000, flow);
  assert.ok(flow.isStill);
  flow.note(true, 10_000);
  assert.ok(!flow.isStill);
});

test('a fault of a device names the device', () => {
  assert.match(wordsFor('device/denied', 'microphone'), /^Your microphone is blocked\. Allow it/);
  assert.match(wordsFor('device/missing', 'camera'), /^Your camera was not found/);
  assert.match(wordsFor('device/busy'), /^Your camera or microphone is used by another program/);
  assert.match(wordsFor('device/insecure', 'camera'), /https/);
});

test('a token says who bears it, whatever else is in it', () => {
  const token = (body) => `x.${Buffer.from(JSON.stringify(body)).toString('base64url')}.y`;
  assert.deepEqual(
    claimsOf(token({ sub: 'u-1', name: 'Žofie ☕', sessionId: 'algebra', role: 'observer', exp: 5, permissions: { chat: true }, jti: 'z' })),
    { sub: 'u-1', name: 'Žofie ☕', sessionId: 'algebra', role: 'observer', exp: 5, permissions: { chat: true } },
  );
  for (const no of ['', 'a', 'a.b.c', token(null), token([]), token('text'), token({ sub: 7, name: '', exp: '5', permissions: 'all' })]) {
    assert.deepEqual(claimsOf(no), {}, no);
  }
});

test('until the server says what is permitted, the role does', () => {
  assert.deepEqual(permissionsOf('observer').publish, []);
  assert.equal(permissionsOf('instructor').moderate, true);
  assert.equal(permissionsOf('participant', { chat: false }).chat, false);
  assert.notEqual(randomId(), randomId());
  assert.match(randomId(), /^[0-9a-f]{32}$/);
});

test('a store replaces its state when something changes, and only then', () => {
  const box = new Box({ a: 1, b: 2 });
  const before = box.state;
  let told = 0;
  const { subscribe } = box; // as hooks take it
  const forget = subscribe(() => { told++; });
  box.set({ a: 1 });
  assert.equal(box.state, before);
  box.set({ a: 3 });
  assert.deepEqual([box.state, before, told], [{ a: 3, b: 2 }, { a: 1, b: 2 }, 1]);
  forget();
  box.set({ a: 4 });
  assert.equal(told, 1);
});

test('one listener may be heard twice, and taken away once', () => {
  const emitter = new Emitter();
  const heard = [];
  const listener = (what) => heard.push(what);
  const forget = emitter.on('x', listener);
  emitter.on('x', listener);
  emitter.emit('x', 1);
  forget();
  emitter.emit('x', 2);
  assert.deepEqual(heard, [1, 1, 2]);
});

test('hands stand in the order in which they were raised', () => {
  let state = start();
  const roster = (...up) => { state = { ...state, ...withRoster(state, ['a', 'b', 'c', 'd'].map((id) => person(id, up.includes(id)))) }; };
  const raise = (id, raised, position) => { state = { ...state, hands: withHand(state.hands, id, raised, position) }; };
  roster('c'); // up before we came
  raise('d', true, 2);
  raise('a', true, 3);
  roster('a', 'c', 'd');
  assert.deepEqual(state.hands, ['c', 'd', 'a']);
  raise('c', false, 0);
  roster('a', 'd');
  assert.deepEqual(state.hands, ['d', 'a']);
  roster('a', 'b', 'd');
  assert.deepEqual(state.hands, ['d', 'a', 'b']);
  state = { ...state, ...withRoster(state, [person('b', true)]) };
  assert.deepEqual(state.hands, ['b'], 'whoever leaves takes the hand along');
});

test('what is gone leaves nothing behind, and what stays is the same as before', () => {
  const state = {
    ...start(), paused: new Set(['t1', 't2']), unavailable: new Map([['t2', 'codec']]), qualities: new Map([['a', { score: 1 }]]), speakers: ['a'],
  };
  const all = withRoster(state, [person('a', false, ['t1', 't2'])]);
  for (const name of ['paused', 'unavailable', 'qualities', 'speakers', 'hands']) assert.equal(all[name], state[name], name);
  const gone = withRoster(state, [person('b', false, ['t1'])]);
  assert.deepEqual([[...gone.paused], gone.unavailable.size, gone.qualities.size, gone.speakers], [['t1'], 0, 0, []]);
  assert.equal(withMember(state.paused, 't1', true), state.paused);
});

test('who and what is the same as before is the very same, so that nothing is shown anew', () => {
  const state = { ...start(), participants: [person('a'), person('b', true)] };
  assert.equal(withRoster(state, [person('a'), person('b', true)]).participants, state.participants);
  const { participants } = withRoster(state, [person('b'), person('a')]);
  assert.deepEqual([participants[1] === state.participants[0], participants[0].handRaised], [true, false]);
  const track = (id) => ({ mid: id, trackId: id, participantId: 'a', source: 'camera', track: state });
  const before = [track('1'), track('2')];
  assert.equal(sameTracks(before, [track('1'), track('2')]), before);
  assert.deepEqual(sameTracks(before, [track('2')]).map((one) => one === before[1]), [true]);
});

test('what was said before comes in between, once', () => {
  const message = (id, timestamp) => ({ id, timestamp, userId: 'u', userName: 'U', message: id });
  let all = withMessages([], [message('a', 1), message('c', 3)]);
  all = withMessages(all, [message('d', 4)]);
  all = withMessages(all, [message('a', 1), message('b', 2), message('d', 4)]);
  assert.deepEqual(all.map(({ id }) => id), ['a', 'b', 'c', 'd']);
  assert.equal(withMessages(all, [message('c', 3)]), all);
  const many = Array.from({ length: MESSAGES_MAX + 10 }, (_, at) => message(`m${at}`, at));
  assert.deepEqual([withMessages([], many).length, withMessages([], many).at(0).id], [MESSAGES_MAX, 'm10']);
});

test('rules are taken over as far as they are said', () => {
  const { rules } = start();
  assert.deepEqual(withRules(rules, { locked: true, chat: false, capacity: 9, waitingRoom: 'no' }), { ...rules, locked: true, chat: false });
});

test('wishes are told late, once, and again when they were refused', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const told = [];
  let [connected, knows] = [true, true];
  const wishes = new Wishes((body, answered) => {
    if (connected) told.push(body);
    if (connected) answered({ ok: knows });
    return connected;
  });
  wishes.setVideos(new Set(['t1', 't2']));
  for (let width = 100; width < 110; width++) wishes.want('t1', { width, height: 50 });
  assert.deepEqual(told, []);
  t.mock.timers.tick(200);
  assert.deepEqual(told.splice(0), [{ trackId: 't1', width: 109, height: 50 }]);
  wishes.want('t1', { width: 109, height: 50 });
  t.mock.timers.tick(200);
  assert.deepEqual(told, [], 'it knows that');
  wishes.unwant('t1');
  wishes.want('t1', { width: 109, height: 50 }); // the tile has only moved
  t.mock.timers.tick(200);
  assert.deepEqual(told, []);
  wishes.unwant('t1');
  t.mock.timers.tick(200);
  assert.deepEqual(told.splice(0), [{ trackId: 't1', width: 0, height: 0 }]);
  knows = false;
  wishes.want('t3', { width: 10, height: 10 });
  t.mock.timers.tick(200);
  knows = true;
  told.splice(0);
  wishes.setVideos(new Set(['t1', 't2', 't3']));
  t.mock.timers.tick(200);
  assert.deepEqual(told.splice(0), [{ trackId: 't3', width: 10, height: 10 }], 'the roster brought it');
  connected = false;
  wishes.want('t3', { width: 20, height: 20 });
  t.mock.timers.tick(200);
  connected = true;
  wishes.anew();
  wishes.setVideos(new Set(['t1', 't2', 't3']));
  t.mock.timers.tick(200);
  assert.deepEqual(told.splice(0).map(({ trackId, width }) => [trackId, width]), [['t1', 0], ['t3', 20]], 'a new seat is told all');
});

test('audio only switches all pictures off, those that come later too, and then on again as they were wished', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const told = [];
  const wishes = new Wishes((body, answered) => { told.push(body); answered({ ok: true }); return true; });
  wishes.setVideos(new Set(['t1', 't2']));
  wishes.want('t1', { width: 64, height: 36 });
  t.mock.timers.tick(200);
  told.splice(0);
  wishes.setAudioOnly(true);
  wishes.setVideos(new Set(['t1', 't2', 't3']));
  wishes.want('t1', { width: 128, height: 72 });
  t.mock.timers.tick(200);
  assert.deepEqual(told.splice(0), ['t1', 't2', 't3'].map((trackId) => ({ trackId, enabled: false })));
  wishes.setAudioOnly(false);
  assert.deepEqual(told.splice(0), [{ trackId: 't1', enabled: true, width: 128, height: 72 }, { trackId: 't2', enabled: true }, { trackId: 't3', enabled: true }]);
});

test('a message says on its first line whom it is for', () => {
  assert.deepEqual(framed('hi', []), ['\nhi']);
  assert.deepEqual(framed('hi\nthere', ['a', 'b']), ['a b\nhi\nthere']);
  assert.deepEqual([...new Uint8Array(framed(new Uint8Array([1, 10]).buffer, ['a'])[0])], [97, 10, 1, 10]);
  assert.deepEqual(unframed('a\nhi\nthere'), { from: 'a', data: 'hi\nthere' });
  const { from, data } = unframed(new Uint8Array([97, 98, 10, 1, 10]).buffer);
  assert.deepEqual([from, [...new Uint8Array(data)]], ['ab', [1, 10]]);
  assert.equal(unframed('no line'), null);
  const many = framed('x', Array.from({ length: RECIPIENTS_MAX + 1 }, (_, at) => `p${at}`));
  assert.deepEqual(many.map((one) => one.split('\n')[0].split(' ').length), [RECIPIENTS_MAX, 1]);
});

test('messages wait for their channel, go on over a new connection, and are refused when there are too many', () => {
  const heard = [];
  const channels = new Channels((...what) => heard.push(what));
  const opened = [];
  const pc = { createDataChannel: (label, options) => {
    const channel = { label, options, readyState: 'connecting', bufferedAmount: 0, frames: [], send: (frame) => channel.frames.push(frame) };
    opened.push(channel);
    return channel;
  } };
  assert.equal(channels.send('data', 'early', []), '');
  channels.attach(pc);
  channels.open('data-lossy');
  const [data, lossy] = opened;
  assert.deepEqual([data.options, lossy.options], [{}, { ordered: false, maxRetransmits: 0 }]);
  data.readyState = 'open';
  data.onopen();
  channels.send('data', 'late', ['p']);
  assert.deepEqual(data.frames, ['\nearly', 'p\nlate']);
  data.onmessage({ data: 'q\nhello' });
  assert.deepEqual(heard, [['data', 'q', 'hello']]);
  assert.equal(channels.send('data', 'x'.repeat(MESSAGE_BYTES_MAX), []), 'request/invalid');
  data.bufferedAmount = 1e9;
  assert.equal(channels.send('data', 'x', []), 'rate/limited');
  data.readyState = 'closed';
  assert.equal(channels.send('data', 'x', []), 'session/forbidden');
  channels.attach(pc);
  assert.deepEqual(opened.slice(2).map(({ label }) => label), ['data', 'data-lossy']);
  const codes = Array.from({ length: 70 }, () => channels.send('data', 'x', []));
  assert.deepEqual([codes.filter((code) => !code).length, codes.at(-1)], [64, 'rate/limited']);
});

test('rates are of the time between two looks', () => {
  const stats = new Stats();
  const at = (timestamp, bytes, received, lost, sent) => new Map([
    { id: 'T', type: 'transport', selectedCandidatePairId: 'P' },
    { id: 'P', type: 'candidate-pair', localCandidateId: 'L', currentRoundTripTime: 0.0424 },
    { id: 'L', type: 'local-candidate', candidateType: 'relay', relayProtocol: 'tls', protocol: 'udp' },
    { id: 'C', type: 'codec', mimeType: 'video/VP8' },
    { id: 'I', type: 'inbound-rtp', timestamp, mid: '0', bytesReceived: bytes, packetsReceived: received, packetsLost: lost, codecId: 'C', frameWidth: 640, frameHeight: 360, framesPerSecond: 29.7 },
    { id: 'O1', type: 'outbound-rtp', timestamp, mid: '1', bytesSent: sent, codecId: 'C', remoteId: 'R', frameWidth: 320, frameHeight: 180, framesPerSecond: 15 },
    { id: 'O2', type: 'outbound-rtp', timestamp, mid: '1', bytesSent: 2 * sent, codecId: 'C', frameWidth: 1280, frameHeight: 720 },
    { id: 'R', type: 'remote-inbound-rtp', fractionLost: 0.25 },
  ].map((one) => [one.id, one]));
  const received = [{ mid: '0', trackId: 't1', participantId: 'p1', source: 'camera', track: { id: 'x' } }];
  const sent = [{ mid: '1', source: 'screen', trackId: 't2' }, { mid: '9', source: 'camera', trackId: 't3' }];
  const first = stats.of(at(1_000, 5_000, 100, 10, 1_000), received, sent, 'me');
  assert.deepEqual(first.tracks.map(({ kbps }) => kbps), [0, 0]);
  const { rttMs, path, tracks: [come, gone] } = stats.of(at(3_000, 55_000, 190, 20, 11_000), received, sent, 'me');
  assert.deepEqual([rttMs, path], [42, 'relay (tls)']);
  assert.deepEqual(come, { trackId: 't1', participantId: 'p1', source: 'camera', direction: 'in', kbps: 200, loss: 0.1, width: 640, height: 360, fps: 30, codec: 'VP8' });
  assert.deepEqual(gone, { trackId: 't2', participantId: 'me', source: 'screen', direction: 'out', kbps: 120, loss: 0.25, width: 320, height: 180, fps: 15, codec: 'VP8' });
});

test('loudness goes from silence to 1', () => {
  const wave = (amplitude) => Float32Array.from({ length: 1024 }, (_, at) => amplitude * Math.sin(at / 5));
  assert.equal(loudness(wave(0)), 0);
  assert.equal(loudness(wave(1)), 1);
  assert.ok(loudness(wave(0.05)) > loudness(wave(0.01)));
  assert.equal(loudness(new Float32Array()), 0);
});
