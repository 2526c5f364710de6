// The product's own call page, with the browsers' fake devices.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until, reload } from './rig.mjs';
import { expectPageFlow, joinPage, press } from './product.mjs';

let rig;
before(async () => { rig = await openRig('product'); }, { timeout: 120_000 });
after(() => rig?.close(), { timeout: 60_000 });

const other = BROWSERS.at(-1);
const scenario = (name, fn) => test(name, { timeout: 150_000 }, fn);

/** The names on the tiles, sorted. */
const names = (page) => page.$$eval('.tile[data-user] .name', (all) => all.map((one) => one.textContent.trim()).sort());
const untilNames = (page, expected) => until(
  async () => JSON.stringify(await names(page)) === JSON.stringify([...expected].sort()),
  SOON_MS, `tiles of ${expected}`,
);

scenario('the page says that the server runs, with no script run', async () => {
  const response = await fetch(rig.lyceum.url);
  assert.equal(response.status, 200);
  assert.match(await response.text(), /Signaling server running/);
});

scenario('two people: names, pictures, mute, chat, hands', async (t) => {
  const session = 'product-two';
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada Lovelace');
  const bob = await joinPage(rig, t, other, session, 'Bob');
  await untilNames(ada, ['Ada Lovelace (you)', 'Bob']);
  await untilNames(bob, ['Ada Lovelace', 'Bob (you)']);
  await expectPageFlow([ada, bob], 2);

  await t.test('the others see who is muted', async () => {
    const muted = (page) => page.$eval('.tile[data-user="u-Ada Lovelace"]', (tile) => tile.dataset.muted);
    assert.equal(await muted(bob), 'false');
    await ada.keyboard.press('m');
    await until(async () => (await muted(bob)) === 'true', SOON_MS, 'Bob sees that Ada is muted');
    await ada.keyboard.press('m');
    await until(async () => (await muted(bob)) === 'false', SOON_MS, 'Bob sees that Ada may be heard');
  });
  await t.test('a camera that is off shows initials, and comes back', async () => {
    const shows = (selector) => until(() => bob.$(`.tile[data-user="u-Ada Lovelace"] ${selector}`), SOON_MS, `Ada's tile shows ${selector}`);
    await shows('video');
    await press(ada, 'camera');
    await shows('.initials');
    await press(ada, 'camera');
    await shows('video');
    await expectPageFlow([ada, bob], 1);
  });
  await t.test('chat goes both ways, with a count of the unread', async () => {
    await press(ada, 'chat');
    await say(ada, 'Good morning <b>all</b>');
    await until(() => bob.$eval('[data-action="chat"] .badge', (badge) => badge.textContent === '1'), SOON_MS, 'one unread');
    await press(bob, 'chat');
    await say(bob, 'Morning, Ada');
    const lines = (page) => page.$$eval('.chat li p', (all) => all.map((one) => one.textContent));
    for (const page of [ada, bob]) {
      await until(async () => (await lines(page)).length === 2, SOON_MS, 'both messages');
      assert.deepEqual(await lines(page), ['Good morning <b>all</b>', 'Morning, Ada']);
    }
  });
  await t.test('a raised hand is seen', async () => {
    await press(bob, 'hand');
    await until(() => ada.$('.tile[data-user="u-Bob"] .raised'), SOON_MS, 'the hand');
    await press(bob, 'hand');
    await until(async () => !(await ada.$('.tile[data-user="u-Bob"] .raised')), SOON_MS, 'the hand goes down');
  });
  await t.test('a screen is shown large', async () => {
    await press(ada, 'share');
    await until(() => bob.$('[data-screen-of="u-Ada Lovelace"] video'), SOON_MS, 'the screen');
    await until(() => bob.$eval('[data-screen-of="u-Ada Lovelace"] video', (video) => video.videoWidth > 0), SOON_MS, 'its picture');
    await press(ada, 'share');
    await until(async () => !(await bob.$('[data-screen-of]')), SOON_MS, 'the screen goes');
  });
});

scenario('three people: late join, reload, leave', async (t) => {
  const session = 'product-three';
  const [ada, bob] = await Promise.all([joinPage(rig, t, 'chromium', session, 'Ada'), joinPage(rig, t, other, session, 'Bob')]);
  await expectPageFlow([ada, bob], 1);
  const cleo = await joinPage(rig, t, 'chromium', session, 'Cleo');
  await untilNames(ada, ['Ada (you)', 'Bob', 'Cleo']);
  await expectPageFlow([ada, bob, cleo], 1);

  await t.test('a reload comes back without being asked', async () => {
    await reload(cleo);
    await untilNames(cleo, ['Ada', 'Bob', 'Cleo (you)']);
    await expectPageFlow([ada, bob, cleo], 1);
  });
  await t.test('one who leaves is gone at once, and may join again', async () => {
    await press(cleo, 'leave');
    await untilNames(ada, ['Ada (you)', 'Bob']);
    await untilNames(bob, ['Ada', 'Bob (you)']);
    assert.equal(await cleo.$eval('.ended', (words) => words.textContent), 'You left the call.');
    await press(cleo, 'join');
    await expectPageFlow([ada, bob, cleo], 1);
  });
  await t.test('a second tab of the same person takes the first one\'s place', async () => {
    const newer = await joinPage(rig, t, 'chromium', session, 'Cleo');
    const words = await until(() => cleo.$eval('.ended', (p) => p.textContent).catch(() => null), SOON_MS, 'the older tab is told');
    assert.match(words, /another tab/);
    await expectPageFlow([ada, bob, newer], 1);
  });
});

scenario('without devices one joins, and is told in words', async (t) => {
  const session = 'product-bare';
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
  const bare = await joinPage(rig, t, 'chromium', session, 'Bare', {
    before: () => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'));
    },
  });
  assert.match(await bare.$eval('.notice', (notice) => notice.textContent), /was not found/);
  await untilNames(bare, ['Ada', 'Bare (you)']);
  await until(() => bare.$eval('.tile[data-user="u-Ada"] video', (video) => video.videoWidth > 0), SOON_MS, 'Bare sees Ada');
});

async function say(page, text) {
  await page.type('.chat input', text);
  await page.keyboard.press('Enter');
}
