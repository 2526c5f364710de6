// An existing mesh client, unchanged but for the URL, has its call by relay; the SFU keeps out of it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, GRACE_OVER_MS, openRig, until } from './rig.mjs';
import { PEOPLE, expectCall } from './expect.mjs';

let rig;
before(async () => { rig = await openRig('mesh'); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

test('three mesh pages in a call, one leaves, one comes back', { timeout: 300_000 }, async (t) => {
  const [ada, bob, cleo] = await Promise.all(
    ['chromium', BROWSERS.at(-1), 'chromium'].map((name, at) => rig.mesh(t, name, 'mesh', PEOPLE[at])),
  );
  await expectCall([ada, bob, cleo]);
  assert.deepEqual(await ada.evaluate(() => Object.keys(peers).sort()), ['bob', 'cleo'], 'one RTCPeerConnection for each other user, none to "sfu"');

  await cleo.goto('about:blank');
  await until(() => ada.evaluate(() => document.querySelectorAll('video').length === 1), GRACE_OVER_MS, 'the tile goes once the grace time is over: this client says no farewell');
  await expectCall([ada, bob], { windows: 1 });
  await cleo.goBack();
  await expectCall([ada, bob, cleo], { windows: 1 });
});
