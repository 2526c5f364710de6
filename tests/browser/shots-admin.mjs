// Takes pictures of the operators' page, and of what an instructor sees with a join token.

import { createHmac, randomUUID } from 'node:crypto';
import { SOON_MS, openRig, pass, until } from './rig.mjs';
import { joinPage, press, tileOf, untilWords } from './product.mjs';
import { desktop, shoot, sitter } from './studio.mjs';

const [SECRET, KEY] = [randomUUID() + randomUUID(), `admin-${randomUUID()}`];
const rig = await openRig('shots-admin', {
  JWT_SECRET: SECRET, LYCEUM_ADMIN_KEY: KEY, LYCEUM__WEBHOOKS__URL: 'http://127.0.0.1:9/hook',
  LYCEUM__WEBHOOKS__SECRET: `whsec_${Buffer.from(randomUUID()).toString('base64')}`,
});
const closing = [];
const t = { after: (fn) => closing.push(fn) };
const session = 'Systems, week 3';
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
function tokenFor(name, role) {
  const exp = Math.floor(Date.now() / 1000) + 3_600;
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ aud: 'lyceum', sub: `u-${name}`, name, sessionId: session, exp, role })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}
const enter = (name, role) => joinPage(rig, t, 'chromium', session, name, { token: tokenFor(name, role), before: `localStorage.who = ${JSON.stringify(name)}; (${sitter})()`, viewport: desktop });

try {
  const ada = await enter('Ada Lovelace', 'instructor');
  const bob = await enter('Bob Moore', 'participant');
  const cleo = await enter('Cleo Marsh', 'participant');
  await press(cleo, 'hand');
  await press(bob, 'hand');
  await until(() => ada.$(`${tileOf('Bob Moore')} .raised`), SOON_MS, 'a hand');
  await press(ada, 'people');
  await untilWords(ada, '.people', /Raised hands/);
  await shoot(ada, 'a-people');
  await ada.$eval('[data-person="u-Bob Moore"] [data-action="actions"]', (button) => button.click());
  await shoot(ada, 'a-actions');
  await ada.keyboard.press('Escape');
  await press(ada, 'people');
  await ada.evaluate(() => document.querySelector('#more').showPopover());
  await shoot(ada, 'a-more');
  await ada.evaluate(() => document.querySelector('#more').hidePopover());
  await press(ada, 'attendance');
  await until(async () => { await press(ada, 'refresh'); return (await ada.$$('[data-attendee]')).length === 3; }, SOON_MS, 'three rows');
  await shoot(ada, 'a-attendance');
  await ada.keyboard.press('Escape');
  const page = await rig.open(t, 'chromium', `${rig.lyceum.url}/admin`, { viewport: desktop });
  await shoot(page, 'b-sign-in');
  await page.type('input[name="key"]', KEY);
  await page.keyboard.press('Enter');
  await until(() => page.$('nav'), SOON_MS, 'signed in');
  await pass(12_000); // for the charts
  await shoot(page, 'b-overview');
  for (const hash of ['rooms', 'meetings', 'webhooks', 'turn', 'errors', 'configuration', 'network']) {
    await page.$eval(`nav a[href="#/${hash}"]`, (link) => link.click());
    await pass(1_500);
    if (hash === 'network') {
      await press(page, 'test');
      await pass(8_000);
    }
    await shoot(page, `b-${hash}`);
    if (hash !== 'rooms' && hash !== 'meetings') continue;
    await page.$eval('td a', (link) => link.click());
    await pass(2_500);
    if (hash === 'rooms') await page.$eval('.disclosure', (button) => button.click());
    await pass(1_500);
    await shoot(page, `b-${hash}-one`);
  }
} finally {
  await Promise.allSettled(closing.map((fn) => fn()));
  await rig.close();
}
