// On a server there is no window, and nothing happens but markup.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement as h } from 'react';
import { renderToString } from 'react-dom/server';
import { fakeMedia, fakeRoom, load, person } from './fakes.mjs';

const { lyceum, example } = await load();

test('without a window everything renders, and nobody joins', () => {
  assert.equal(typeof window, 'undefined');
  const room = fakeRoom({ participants: [person('a'), person('b', { userName: 'Ada <3' })], tracks: [
    { mid: '0', trackId: 't0', participantId: 'b', source: 'camera', track: { kind: 'video' } },
    { mid: '1', trackId: 't1', participantId: 'b', source: 'microphone', track: { kind: 'audio' } },
  ] });
  const media = fakeMedia({ faults: { camera: 'device/denied' }, devices: { camera: [{ id: 'c1', label: 'Webcam' }], microphone: [], speaker: [] } });
  function Page() {
    const [track] = lyceum.useTracks({ source: 'camera' });
    return h('main', {},
      lyceum.useParticipants().map((one) => h('p', { key: one.participantId }, one.userName)),
      h(lyceum.VideoTile, { track, label: 'Camera' }, h('i', {}, 'on its way')),
      h(lyceum.RoomAudio),
      h(lyceum.PreJoin, { name: 'Grace', asksName: true }));
  }
  const markup = renderToString(h(lyceum.RoomProvider, { room, media, join: true }, h(Page)));
  assert.match(markup, /<p>Ada &lt;3<\/p>/);
  assert.match(markup, /<i>on its way<\/i><video class="unlit"/);
  assert.equal(markup.match(/<audio/g).length, 1);
  assert.match(markup, /<li data-fault="device\/denied">Your camera is blocked/);
  assert.match(markup, /<option value="c1"[^>]*>Webcam<\/option>/);
  assert.match(markup, /value="Grace"/);
  assert.deepEqual([room.asked, media.asked, room.listeners.size, media.listeners.size], [[], [], 0, 0]);
});

test('a call made from options renders, too', () => {
  const markup = renderToString(h(lyceum.RoomProvider, { options: { sessionId: 'algebra' }, join: true }, h(lyceum.PreJoin)));
  assert.match(markup, /data-action="join"/);
});

test("the README's example shows the way in", () => {
  const markup = renderToString(h(example.Lesson, { url: 'https://lyceum.example', token: () => assert.fail('nobody joins yet') }));
  assert.match(markup, /<form class="lyceum-prejoin">.*data-action="join"/);
});

test('outside of a provider hooks say what is missing', () => {
  assert.throws(() => renderToString(h(lyceum.PreJoin)), /RoomProvider/);
});
