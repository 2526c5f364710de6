// Takes pictures of the call page with a running call: desktop and phone, light and dark. They go to $SHOTS_DIR.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { openRig, until } from './rig.mjs';
import { expectPageFlow, joinPage, press } from './product.mjs';

const directory = process.env.SHOTS_DIR ?? 'shots';
mkdirSync(directory, { recursive: true });
const rig = await openRig('shots');
const closing = [];
const t = { after: (fn) => closing.push(fn) };
const desktop = { width: 1280, height: 800 };
const phone = { width: 390, height: 844, deviceScaleFactor: 2 }; // without isMobile, for which puppeteer would reload the page
const schemes = ['dark', 'light'];

async function shoot(page, name) {
  for (const [device, viewport] of Object.entries({ desktop, phone })) {
    await page.setViewport(viewport);
    for (const value of schemes) {
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]);
      await page.screenshot({ path: join(directory, `${name}-${device}-${value}.png`) });
    }
  }
  await page.setViewport(desktop);
}

try {
  const session = 'Systems, week 3';
  const lobby = await rig.open(t, 'chromium', `${rig.lyceum.url}/?session=${encodeURIComponent(session)}&name=Ada+Lovelace`, { viewport: desktop });
  await until(() => lobby.$('.preview video'), 20_000, 'the preview');
  await shoot(lobby, '1-lobby');
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada Lovelace', { viewport: desktop, query: { instructor: '1' } });
  const guests = [];
  for (const name of ['Bob Moore', 'Cleo', 'Dan Østergård']) guests.push(await joinPage(rig, t, 'chromium', session, name));
  await expectPageFlow([ada, ...guests], 1);
  await press(guests[1], 'camera');
  await press(guests[2], 'mic');
  await press(guests[0], 'hand');
  await until(() => ada.$('.tile[data-user="u-Cleo"] .initials'), 20_000, 'a camera that is off');
  await until(() => ada.$('.tile[data-user="u-Bob Moore"] .raised'), 20_000, 'a raised hand');
  await shoot(ada, '2-call');
  await press(guests[0], 'chat');
  for (const text of ['Could you repeat the part on pacing?', 'And where are the slides?']) {
    await guests[0].type('.chat input', text);
    await guests[0].keyboard.press('Enter');
  }
  await until(() => ada.$('[data-action="chat"] .badge'), 20_000, 'unread messages');
  await press(guests[0], 'share');
  await until(() => ada.$eval('[data-screen-of] video', (video) => video.videoWidth > 0), 20_000, 'a shared screen');
  await shoot(ada, '3-screen');
  await press(ada, 'chat');
  await shoot(ada, '4-chat');
  await press(ada, 'people');
  await shoot(ada, '5-people');
  await press(ada, 'leave');
  await until(() => ada.$('.ended'), 20_000, 'the call ends');
  await shoot(ada, '6-left');
} finally {
  await Promise.allSettled(closing.map((fn) => fn()));
  await rig.close();
}
