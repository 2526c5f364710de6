// In a window, and under StrictMode, which does and takes back each effect once more.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setImmediate as nextTask, setTimeout as later } from 'node:timers/promises';
import { Window } from 'happy-dom';
import { fakeMedia, fakeRoom, load, person } from './fakes.mjs';

let lyceum, React, createRoot, act, h;
const observers = new Set();

/** Of both kinds: the test says what there is to see. */
class Observer {
  constructor(callback) { this.callback = callback; }
  observe(element) { this.element = element; observers.add(this); }
  disconnect() { observers.delete(this); }
}

before(async () => {
  ({ lyceum } = await load());
  const window = new Window({ url: 'https://school.example/' });
  const { document, navigator, HTMLElement, HTMLMediaElement, HTMLVideoElement, HTMLIFrameElement, DOMException } = window;
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true }); // newer ones of node have one of their own
  Object.assign(globalThis, {
    window, document, HTMLElement, HTMLMediaElement, HTMLIFrameElement, DOMException, devicePixelRatio: 2, IS_REACT_ACT_ENVIRONMENT: true,
    ResizeObserver: class Size extends Observer {}, IntersectionObserver: class Sight extends Observer {},
    MediaStream: class { constructor(tracks) { this.tracks = tracks; } },
  });
  Object.defineProperty(HTMLMediaElement.prototype, 'srcObject', { writable: true, value: null });
  HTMLMediaElement.prototype.play = async () => {};
  Object.defineProperty(HTMLVideoElement.prototype, 'clientWidth', { value: 320 });
  Object.defineProperty(HTMLVideoElement.prototype, 'clientHeight', { value: 180 });
  React = await import('react');
  ({ createRoot } = await import('react-dom/client'));
  ({ act, createElement: h } = React);
});
after(() => window.happyDOM.close());

let root;
afterEach(async () => {
  await act(() => root.unmount());
  await nextTask();
  document.body.innerHTML = '';
});

/** Shows an element under StrictMode, and again when called again. */
async function show(element, again) {
  if (!again) root = createRoot(document.body.appendChild(document.createElement('div')));
  await act(() => root.render(h(React.StrictMode, {}, element)));
  return document.body.firstChild;
}

const names = (asked) => asked.map(([name]) => name);
/** As long as an effect that is taken back waits whether it is done again. */
const aTask = () => later(10);

test('a provider that joins does so once, and leaves once', async () => {
  const room = fakeRoom();
  await show(h(lyceum.RoomProvider, { room, join: true }));
  await aTask();
  assert.deepEqual(names(room.asked), ['join']);
  await show(h(lyceum.RoomProvider, { room }), true);
  await aTask();
  assert.deepEqual(names(room.asked), ['join', 'leave']);
  await show(h(lyceum.RoomProvider, { room, join: true }), true);
  await show(null, true);
  await aTask();
  assert.deepEqual(names(room.asked), ['join', 'leave', 'join', 'leave']);
  assert.equal(room.listeners.size, 0);
});

test('a component renders again only when what it selects changes', async () => {
  const room = fakeRoom();
  let renders = 0;
  function Others() {
    renders += 1;
    return h('b', {}, lyceum.useRoomState((state) => state.participants.filter((one) => one.participantId !== state.ownId)).map((one) => one.userName));
  }
  const page = await show(h(lyceum.RoomProvider, { room }, h(Others)));
  assert.equal(page.textContent, 'B');
  renders = 0;
  await act(() => room.set({ speakers: ['b'] }));
  await act(() => room.set({ participants: [...room.state.participants] }));
  assert.equal(renders, 0);
  await act(() => room.set({ participants: [...room.state.participants, person('c')] }));
  assert.equal(page.textContent, 'BC');
  assert.equal(renders, 2); // twice by StrictMode
});

test('an event is heard by the listener of the last render, and by nobody afterwards', async () => {
  const room = fakeRoom();
  const heard = [];
  function Ear({ as }) {
    lyceum.useRoomEvent('refused', (code) => heard.push(`${as} ${code}`));
    return null;
  }
  await show(h(lyceum.RoomProvider, { room }, h(Ear, { as: 'first' })));
  await show(h(lyceum.RoomProvider, { room }, h(Ear, { as: 'second' })), true);
  room.heard.get('refused')('rate/limited');
  assert.deepEqual(heard, ['second rate/limited']);
  await show(null, true);
  assert.equal(room.heard.size, 0);
});

test('a tile says how large it is seen, that it is not, and that it is gone', async () => {
  const room = fakeRoom();
  const track = { mid: '0', trackId: 't', participantId: 'b', source: 'camera', track: { kind: 'video' } };
  const page = await show(h(lyceum.RoomProvider, { room }, h(lyceum.VideoTile, { track }, 'on its way')));
  room.asked.length = 0;
  const [size, sight] = [...observers];
  size.callback([]);
  assert.deepEqual(room.asked.pop(), ['want', 't', { width: 640, height: 360 }]);
  sight.callback([{ isIntersecting: true }, { isIntersecting: false }]);
  assert.deepEqual(room.asked.pop(), ['want', 't', { width: 0, height: 0 }]);
  assert.equal(page.textContent, 'on its way');
  await act(() => page.querySelector('video').dispatchEvent(new window.Event('loadeddata')));
  assert.equal(page.textContent, '');
  await show(null, true);
  assert.deepEqual(room.asked.pop(), ['unwant', 't']);
  assert.equal(observers.size, 0);
});

test('blocked sound is unlocked by the button, and by a click anywhere', async () => {
  const track = { mid: '0', trackId: 't', participantId: 'b', source: 'microphone', track: { kind: 'audio' } };
  const room = fakeRoom({ tracks: [track] });
  const media = fakeMedia();
  let allowed = false;
  let plays = 0;
  HTMLMediaElement.prototype.play = async () => {
    if (!allowed) throw new DOMException('no gesture', 'NotAllowedError');
    plays += 1;
  };
  const told = [];
  await show(h(lyceum.RoomProvider, { room, media }, h(lyceum.RoomAudio, { onBlocked: (unlock) => told.push(unlock) })));
  assert.equal(typeof told.at(-1), 'function');
  told.at(-1)(); // from code, without a gesture: it stays blocked, and says so again
  await aTask();
  assert.equal(typeof told.at(-1), 'function');
  allowed = true;
  document.body.click();
  await aTask();
  assert.deepEqual([told.at(-1), plays], [null, 1]);
  HTMLMediaElement.prototype.play = async () => {};
});

test('the way in asks for the devices once, tells faults, and joins with the name', async () => {
  const [room, media] = [fakeRoom(), fakeMedia()];
  const joined = [];
  const page = await show(h(lyceum.RoomProvider, { room, media }, h(lyceum.PreJoin, { name: ' Ada ', onJoin: (name) => joined.push(name) })));
  assert.deepEqual(media.asked, [['start']]);
  await act(() => media.set({ faults: { microphone: 'device/busy' }, microphoneOn: true }));
  assert.match(page.querySelector('[data-fault="device/busy"]').textContent, /^Your microphone is used/);
  await act(() => page.querySelector('[data-action="mic"]').click());
  assert.deepEqual(media.asked.at(-1), ['setMicrophone', false]);
  await act(() => page.querySelector('[data-action="join"]').click());
  assert.deepEqual(joined, ['Ada']);
});

test('a way in that hands the name to nobody does not ask for it', async () => {
  const room = fakeRoom();
  const page = await show(h(lyceum.RoomProvider, { room, media: fakeMedia() }, h(lyceum.PreJoin)));
  assert.equal(page.querySelector('[name="name"]'), null);
  await act(() => page.querySelector('[data-action="join"]').click());
  assert.deepEqual(room.asked, [['join']]);
});

test('the hooks of hands, chat and the waiting room act', async () => {
  const room = fakeRoom({ hands: ['b', 'a'], waiting: [{ waitingId: 'w', userId: 'u', userName: 'U' }] });
  let seen;
  function Seen() {
    seen = {
      hands: lyceum.useHands(), chat: lyceum.useChat(), waiting: lyceum.useWaiting(), self: lyceum.useParticipant(), other: lyceum.useParticipant('b'),
      quality: lyceum.useConnectionQuality('b'),
    };
    return null;
  }
  await show(h(lyceum.RoomProvider, { room }, h(Seen)));
  assert.deepEqual([seen.hands.hands, seen.hands.raised, seen.self.participantId, seen.other.participantId, seen.quality], [['b', 'a'], true, 'a', 'b', undefined]);
  await seen.hands.raise(false);
  await seen.chat.say('hello');
  await seen.waiting.admit('w');
  await seen.waiting.admit();
  assert.deepEqual(room.asked, [
    ['raiseHand', false], ['say', 'hello'], ['moderate', { action: 'admit', participantId: 'w' }], ['moderate', { action: 'admit' }],
  ]);
});
