// Takes pictures of the call page: desktop and phone, light and dark. They go to $SHOTS_DIR.

import { openRig, until } from './rig.mjs';
import { joinPage, press, tileOf, untilWords } from './product.mjs';
import { desktop, shoot, sitter } from './studio.mjs';

const rig = await openRig('shots');
const closing = [];
const t = { after: (fn) => closing.push(fn) };
/** Somebody who says no to the camera. Runs in the page. */
function refuses() {
  navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'));
}

const options = { before: sitter, viewport: desktop };
const session = 'Systems, week 3';
const lobbyAddress = (url) => `${url}/?${new URLSearchParams({ session, name: 'Ada Lovelace' })}`;

try {
  const lobby = await rig.open(t, 'chromium', lobbyAddress(rig.lyceum.url), options);
  await until(() => lobby.$('.preview video:not(.unlit)'), 20_000, 'the preview');
  await shoot(lobby, '1-lobby');
  const refused = await rig.open(t, 'chromium', lobbyAddress(rig.lyceum.url), { ...options, before: refuses });
  await untilWords(refused, '.faults', /is blocked/);
  await shoot(refused, '1-refused');
  await lobby.close();
  await refused.close();

  const line = await rig.line();
  t.after(() => line.close());
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada Lovelace', { ...options, url: line.url, query: { instructor: '1' } });
  await shoot(ada, '2-alone');
  const bob = await joinPage(rig, t, 'chromium', session, 'Bob Moore', options);
  await until(() => ada.$$eval('.tile video:not(.unlit)', (all) => all.length === 2), 20_000, 'two pictures');
  await shoot(ada, '2-two');
  const [cleo, dan] = await Promise.all(['Cleo Marsh', 'Dan Østergård'].map((name) => joinPage(rig, t, 'chromium', session, name, options)));
  await until(() => ada.$(`${tileOf('Bob Moore')}.speaking`), 20_000, 'Bob speaks');
  await press(dan, 'mic');
  await press(cleo, 'hand');
  await until(() => ada.$(`${tileOf('Cleo Marsh')} .raised`), 20_000, 'a raised hand');
  await until(() => ada.$$eval('.tile video:not(.unlit)', (all) => all.length === 4), 20_000, 'four pictures');
  await shoot(ada, '3-call');
  await press(bob, 'share');
  await until(() => ada.$('[data-screen-of] video:not(.unlit)'), 20_000, 'a shared screen');
  await until(() => ada.$$eval('.strip video:not(.unlit)', (all) => all.length === 4), 20_000, 'four pictures beside it');
  await shoot(ada, '3-share'); // docs/call.png is the dark one of the desktop
  await press(bob, 'share');
  await until(async () => !(await ada.$('[data-screen-of]')), 20_000, 'the screen is not shared any more');
  await press(cleo, 'camera');
  await until(() => ada.$(`${tileOf('Cleo Marsh')} .initials`), 20_000, 'a camera that is off');
  await press(dan, 'leave');
  await until(() => ada.$$eval('.tile', (all) => all.length === 3), 20_000, 'three tiles');
  await shoot(ada, '3-three');
  await press(bob, 'chat');
  for (const text of ['Could you repeat the part on pacing?', 'And where are the slides?']) {
    await bob.type('.chat textarea', text);
    await bob.keyboard.press('Enter');
  }
  await until(() => ada.$('[data-action="chat"] .badge'), 20_000, 'unread messages');
  await press(ada, 'settings');
  await shoot(ada, '4-settings');
  await press(bob, 'share');
  await until(() => ada.$('[data-screen-of] video:not(.unlit)'), 20_000, 'a shared screen');
  await press(ada, 'settings');
  await shoot(ada, '5-screen');
  await shoot(bob, '5-sharing');
  await press(ada, 'chat');
  await ada.type('.chat textarea', 'They are on the course page: https://example.org/systems/week-3/pacing-and-congestion-control');
  await ada.keyboard.press('Enter');
  await until(() => ada.$$eval('.chat li', (all) => all.length === 3), 20_000, 'three messages');
  await shoot(ada, '6-chat');
  await press(ada, 'people');
  await shoot(ada, '6-people');
  await press(ada, 'people');
  line.cut();
  await untilWords(ada, '.overlay', /connection was lost|cannot be reached/);
  await untilWords(bob, `${tileOf('Ada Lovelace')} .veil`, /Reconnecting/);
  await shoot(ada, '7-reconnecting');
  await press(bob, 'share');
  await until(async () => !(await bob.$('.presenting')), 20_000, 'the screen is not shared any more');
  await shoot(bob, '7-other-reconnecting');
  line.mend();
  await until(async () => !(await ada.$('.overlay')), 20_000, 'the call goes on');
  await ada.evaluate(() => document.querySelector('#more').showPopover());
  await shoot(ada, '8-more');
  await ada.evaluate(() => document.querySelector('#more').hidePopover());
  await press(ada, 'layout');
  await until(() => ada.$('.tile.large'), 20_000, 'one is large');
  await shoot(ada, '8-speaker');
  await press(ada, 'stats');
  await untilWords(ada, '.stats', /kbit\/s/);
  await shoot(ada, '8-stats');
  await press(ada, 'leave');
  await untilWords(ada, 'dialog', /without an instructor/);
  await shoot(ada, '8-asked');
  await press(ada, 'confirm-leave');
  await until(() => ada.$('.ended'), 20_000, 'the call ends');
  await shoot(ada, '8-left');
  const unreached = await rig.open(t, 'chromium', lobbyAddress(line.url), options);
  await until(() => unreached.$('.preview video:not(.unlit)'), 20_000, 'the preview');
  line.cut();
  await press(unreached, 'join');
  await untilWords(unreached, '.overlay', /cannot be reached/);
  await shoot(unreached, '8-unreached');
} finally {
  await Promise.allSettled(closing.map((fn) => fn()));
  await rig.close();
}
