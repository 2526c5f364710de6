// The product's own call page, with the browsers' fake devices.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { BROWSERS, GRACE_OVER_MS, SOON_MS, openRig, until, reload } from './rig.mjs';
import {
  DESKTOP, LYING, PHONE, clean, expectPageFlow, joinPage, press, tileOf, untilAllMove, untilMoving, untilNames, untilWay, untilWords,
} from './product.mjs';

let rig;
before(async () => { rig = await openRig('product'); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const other = BROWSERS.at(-1);
const scenario = (name, fn) => test(name, { timeout: 300_000 }, fn);

const seatOf = (page, user) => page.$eval(tileOf(user), (tile) => tile.dataset.participant);
const LOST = /connection was lost/;
const noOverlay = (page) => until(async () => !(await page.$('.overlay')), SOON_MS, `${page.as.name} has no overlay`);

/** What a first visit may cost, in bytes of gzip. */
const FIRST_LOAD_MAX = 60_000;

scenario('the first load is small', async (t) => {
  const index = await (await fetch(rig.lyceum.url)).text();
  const paths = [...index.matchAll(/(?:src|href)="\.?\/?([^"]+\.(?:js|css|svg))"/g)].map((match) => match[1]);
  assert.ok(paths.some((path) => path.endsWith('.js')) && paths.some((path) => path.endsWith('.css')), `script and style: ${paths}`);
  const bodies = await Promise.all(paths.map(async (path) => Buffer.from(await (await fetch(`${rig.lyceum.url}/${path}`)).arrayBuffer())));
  const bytes = [Buffer.from(index), ...bodies].reduce((sum, body) => sum + gzipSync(body).length, 0);
  t.diagnostic(`first load: ${bytes} bytes of gzip`);
  assert.ok(bytes <= FIRST_LOAD_MAX, `${bytes} bytes`);
});

scenario('the page says that the server runs, with no script run', async () => {
  const response = await fetch(rig.lyceum.url);
  assert.equal(response.status, 200);
  assert.match(await response.text(), /Signaling server running/);
});

scenario('two people: names, pictures, the own one in a corner, mute, chat, hands', async (t) => {
  const session = 'product-two';
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada Lovelace', { voice: true });
  const bob = await joinPage(rig, t, other, session, 'Bob');
  await untilNames(ada, ['Ada Lovelace (you)', 'Bob']);
  await untilNames(bob, ['Ada Lovelace', 'Bob (you)']);
  await expectPageFlow([ada, bob], 2);

  await t.test('the own picture lies in a corner: it is moved, put away and brought back by keys and by hand', async () => {
    const stage = (page) => page.evaluate(() => {
      const [whole, own, other] = ['.stage', '.self', '.tile:not(.own)'].map((one) => document.querySelector(one)?.getBoundingClientRect());
      const corner = own && `${own.y * 2 + own.height < whole.y * 2 + whole.height ? 'top' : 'bottom'} ${own.x * 2 + own.width < whole.x * 2 + whole.width ? 'left' : 'right'}`;
      return { corner, at: own && [own.x + own.width / 2, own.y + own.height / 2], part: other && (other.width * other.height) / (whole.width * whole.height) };
    });
    const lies = (page, wanted) => until(async () => (await stage(page)).corner === wanted, SOON_MS, async () => `${wanted}, not ${JSON.stringify(await stage(page))}`);
    for (const page of [ada, bob]) {
      await lies(page, 'bottom right');
      assert.ok((await stage(page)).part > 0.7, 'the other has the place');
      await page.focus('[data-action="move-self"]');
      await page.keyboard.press('ArrowLeft');
      await lies(page, 'bottom left');
      await page.keyboard.press('Enter');
      await lies(page, 'top left');
      const { at: [x, y] } = await stage(page);
      await page.mouse.move(x, y + 20);
      await page.mouse.down();
      await page.mouse.move(x + 300, y + 30);
      await page.mouse.move(x + 420, y + 30);
      await page.mouse.up();
      await lies(page, 'top right');
      await press(page, 'hide-self');
      await until(async () => !(await page.$('.tile.own')), SOON_MS, 'it is put away');
      assert.equal(await page.evaluate(() => document.activeElement.dataset.action), 'more', 'the focus is where it comes back');
      await press(page, 'self');
      await lies(page, 'top right');
    }
    await clean(ada, 'the own picture in a corner', [PHONE, LYING, DESKTOP]);
    await ada.setViewport({ width: 640, height: 480 });
  });
  await t.test('who speaks has a border', async () => {
    const border = () => bob.$eval(tileOf('Ada Lovelace'), (tile) => getComputedStyle(tile, '::after').borderTopColor);
    const seen = new Set();
    await until(async () => {
      seen.add(await border());
      return seen.has('rgb(82, 214, 139)') || seen.has('rgb(23, 153, 90)');
    }, SOON_MS, () => `a border, not only ${[...seen]}`);
  });
  await t.test('the others see who is muted', async () => {
    const muted = (page) => page.$eval('.tile[data-user="u-Ada Lovelace"]', (tile) => tile.dataset.muted);
    await until(async () => (await muted(bob)) === 'false', SOON_MS, 'Bob sees that Ada may be heard');
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
  await t.test('a screen is shown large, beside the faces, as often as one likes', async () => {
    for (const [from, to] of [[ada, bob], [bob, ada], [ada, bob]]) {
      await press(from, 'share');
      await untilWords(from, '.presenting', /You are sharing your screen/);
      await untilMoving(to, from.as.name, SOON_MS, `[data-screen-of="${from.as.user}"]`);
      const area = (selector) => to.$eval(selector, (tile) => tile.clientWidth * tile.clientHeight);
      await until(async () => await area('[data-screen-of]') > 2 * await area(tileOf(from.as.name)), SOON_MS, 'the screen is larger than a face');
      await untilAllMove([ada, bob]);
      await press(from, 'share');
      await until(async () => !(await to.$('[data-screen-of]')), SOON_MS, 'the screen goes');
    }
  });
});

scenario('three people: late join, reload, leave', async (t) => {
  const session = 'product-three';
  const [ada, bob] = await Promise.all([joinPage(rig, t, 'chromium', session, 'Ada'), joinPage(rig, t, other, session, 'Bob')]);
  await expectPageFlow([ada, bob], 1);
  const started = Date.now();
  const cleo = await joinPage(rig, t, 'chromium', session, 'Cleo');
  await untilNames(ada, ['Ada (you)', 'Bob', 'Cleo']);
  await untilAllMove([ada, bob, cleo]);
  t.diagnostic(`late join: everyone sees everyone after ${Date.now() - started} ms, opening the page included`);
  await expectPageFlow([ada, bob, cleo], 1);

  for (const page of [cleo, bob]) {
    await t.test(`a reload of ${page.browserName} comes back to its seat without being asked`, async (t) => {
      const seat = await seatOf(ada, page.as.name);
      const started = Date.now();
      await reload(page);
      await untilNames(page, ['Ada', 'Bob', 'Cleo'].map((name) => (name === page.as.name ? `${name} (you)` : name)));
      await untilAllMove([ada, bob, cleo]);
      t.diagnostic(`reload: everyone sees everyone after ${Date.now() - started} ms`);
      assert.equal(await seatOf(ada, page.as.name), seat, 'the same seat');
      await expectPageFlow([ada, bob, cleo], 1);
    });
  }
  await t.test('one who leaves is gone at once, and may join again', async () => {
    await press(cleo, 'leave');
    await untilNames(ada, ['Ada (you)', 'Bob']);
    await untilNames(bob, ['Ada', 'Bob (you)']);
    await untilWords(cleo, '.ended', /^You left the call\.$/);
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

scenario('a tab that is closed, in each browser', async (t) => {
  const session = 'product-closed';
  const [ada, ...guests] = await Promise.all(['chromium', ...BROWSERS].map((browserName, at) => (
    joinPage(rig, t, browserName, session, at ? `Guest in ${browserName}` : 'Ada'))));
  await untilAllMove([ada, ...guests]);
  const started = Date.now();
  for (const guest of guests) {
    await guest.close({ runBeforeUnload: true }); // as a person closes it: with the page's own events
    await untilWords(ada, `${tileOf(guest.as.name)} .veil`, /Reconnecting/);
    t.diagnostic(`${guest.as.name} dimmed after ${Date.now() - started} ms`);
  }
  await untilNames(ada, ['Ada (you)'], GRACE_OVER_MS);
  t.diagnostic(`gone after ${Date.now() - started} ms`);
});

for (const browserName of BROWSERS) {
  scenario(`a reload in ${browserName} does not wait for the camera`, async (t) => {
    const session = `product-slow-${browserName}`;
    const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
    const slow = await joinPage(rig, t, browserName, session, 'Slow', {
      before: () => { // asks until `window.allow()`, as a prompt does
        const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        const allowed = new Promise((done) => { window.allow = done; });
        navigator.mediaDevices.getUserMedia = async (asked) => { await allowed; return whole(asked); };
      },
    });
    await untilMoving(slow, 'Ada');
    await until(() => ada.$(`${tileOf('Slow')} .initials`), SOON_MS, 'initials of one without a camera');
    await reload(slow);
    await untilNames(slow, ['Ada', 'Slow (you)']);
    await untilMoving(slow, 'Ada');
    await slow.evaluate(() => window.allow());
    await expectPageFlow([ada, slow], 1);
  });

  scenario(`devices refused in ${browserName}: one joins, and is told in words`, async (t) => {
    const session = `product-refused-${browserName}`;
    const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
    const shy = await joinPage(rig, t, browserName, session, 'Shy', {
      before: () => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); },
    });
    await untilWords(shy, '.notice', /is blocked\. Allow it/);
    await untilMoving(shy, 'Ada');
    await until(() => ada.$(`${tileOf('Shy')} .initials`), SOON_MS, 'initials');
    await until(() => ada.$(`${tileOf('Shy')} .muted`), SOON_MS, 'a microphone that is off');
  });
}

scenario('a socket that is cut: words, moving pictures all the while, and the same seat', async (t) => {
  const session = 'product-cut';
  for (const [at, browserName] of BROWSERS.entries()) {
    const line = await rig.line();
    t.after(() => line.close());
    const ada = await joinPage(rig, t, 'chromium', `${session}-${at}`, 'Ada');
    const bob = await joinPage(rig, t, browserName, `${session}-${at}`, 'Bob', { url: line.url });
    await expectPageFlow([ada, bob], 1);
    const seat = await seatOf(ada, 'Bob');
    line.cut();
    await untilWords(bob, '.overlay', LOST);
    await untilWords(ada, `${tileOf('Bob')} .veil`, /Reconnecting/);
    await expectPageFlow([ada, bob], 2);
    assert.ok(await bob.$('.overlay'), 'still away');
    line.mend();
    await noOverlay(bob);
    await until(async () => !(await ada.$('.veil')), SOON_MS, 'Ada sees Bob undimmed');
    assert.equal(await seatOf(ada, 'Bob'), seat);
    await expectPageFlow([ada, bob], 1);
  }
});

for (const browserName of BROWSERS) {
  scenario(`${browserName}: only relayed media says so, and outlives a socket that is cut`, async (t) => {
    const session = `product-relay-${browserName}`;
    const line = await rig.line();
    t.after(() => line.close());
    const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
    const mark = (page) => page.$$eval('.tile .relayed', (all) => all.map((one) => one.textContent));
    for (const [relay, words] of [['tcp', 'Relayed (TCP)'], ['1', 'Relayed (UDP)']]) {
      const bob = await joinPage(rig, t, browserName, session, 'Bob', { url: line.url, query: { relay } });
      await until(async () => (await mark(bob)).join() === words, SOON_MS, `Bob reads ${words}`);
      await press(bob, 'people');
      await untilWords(bob, '.people .relayed', /^Relayed/);
      await expectPageFlow([ada, bob], 1);
      line.cut();
      await untilWords(bob, '.overlay', LOST);
      line.mend();
      await noOverlay(bob);
      // The next offer takes up the credentials of the resumed join.
      await press(bob, 'share');
      await untilMoving(ada, 'Bob', SOON_MS, '[data-screen-of="u-Bob"]');
      await expectPageFlow([ada, bob], 1);
      await until(async () => (await mark(bob)).join() === words, SOON_MS, `Bob still reads ${words}`);
      await press(bob, 'leave');
      await untilNames(ada, ['Ada (you)']);
    }
    assert.deepEqual(await mark(ada), [], 'a direct connection needs no mark');
    const eve = await joinPage(rig, t, browserName, session, 'Eve', { query: { relay: 'tls' } });
    await untilWords(eve, '.notice', /names no such TURN server/);
    await until(async () => (await mark(eve)).join() === 'Not relayed', SOON_MS, 'Eve reads that nothing is relayed');
  });
}

for (const signal of ['SIGKILL', 'SIGTERM']) {
  scenario(`the server is ended by ${signal} and started again: all come back by themselves`, async (t) => {
    const session = `product-restart-${signal}`;
    const [ada, bob] = await Promise.all([joinPage(rig, t, 'chromium', session, 'Ada'), joinPage(rig, t, other, session, 'Bob')]);
    await expectPageFlow([ada, bob], 1);
    await rig.lyceum.end(signal);
    for (const page of [ada, bob]) await untilWords(page, '.overlay', /Reconnecting|cannot be reached/);
    await rig.lyceum.start();
    const started = Date.now();
    await Promise.all([ada, bob].map(noOverlay));
    await untilAllMove([ada, bob]);
    t.diagnostic(`everyone sees everyone ${Date.now() - started} ms after the server is ready`);
    await untilNames(ada, ['Ada (you)', 'Bob']);
    await expectPageFlow([ada, bob], 1);
  });
}

scenario('a server that cannot be reached: words, and in as soon as it can', async (t) => {
  const line = await rig.line();
  t.after(() => line.close());
  const lobby = await rig.open(t, other, `${line.url}/?session=product-unreached&name=Ada&user=u-Ada`);
  lobby.as = { name: 'Ada' };
  await until(() => lobby.$('[data-action="join"]'), SOON_MS, 'the form');
  line.cut();
  await press(lobby, 'join');
  await untilWords(lobby, '.overlay', /cannot be reached/);
  line.mend();
  await untilNames(lobby, ['Ada (you)']);
  await noOverlay(lobby);
});

/**
 * Two cameras, one red and one blue. (Chromium's own second fake camera counts its frames from 0 again, for which Chromium's
 * encoder drops them.) Runs in the page.
 */
function twoCameras() {
  const colours = { red: '#e00000', blue: '#0000f0' };
  navigator.mediaDevices.enumerateDevices = async () => Object.keys(colours).map((id) => ({ kind: 'videoinput', deviceId: id, label: `The ${id} one` }));
  const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (asked) => {
    if (!asked.video) return whole(asked);
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 });
    const context = canvas.getContext('2d');
    let at = 0;
    setInterval(() => {
      context.fillStyle = colours[asked.video.deviceId?.exact ?? 'red'];
      context.fillRect(0, 0, 320, 180);
      context.fillStyle = '#888';
      context.fillRect((at++ * 4) % 320, 0, 8, 180);
    }, 1000 / 15);
    return canvas.captureStream();
  };
}

for (const browserName of BROWSERS) {
  scenario(`a camera is chosen in ${browserName}, in the call too, and remembered`, async (t) => {
    const session = `product-choice-${browserName}`;
    const ada = await joinPage(rig, t, browserName, session, 'Ada', { before: twoCameras });
    const bob = await joinPage(rig, t, other, session, 'Bob');
    const untilColour = (page, at) => until(async () => {
      const seen = await page.evaluate((selector) => window.probe.colourOf(document.querySelector(`${selector} video`)), tileOf('Ada'));
      return seen && seen[at] > 150 && seen.every((value, i) => i === at || value < 80);
    }, SOON_MS, `${page.as.name} sees the camera of colour ${at}`);
    await Promise.all([ada, bob].map((page) => untilColour(page, 0)));
    await press(ada, 'settings');
    const choice = '.settings select[name="camera"]';
    const offered = () => ada.$$eval(`${choice} option`, (all) => all.map((one) => one.textContent).join());
    await until(async () => (await offered()) === 'The red one,The blue one', SOON_MS, 'the choice');
    await ada.select(choice, 'blue');
    await Promise.all([ada, bob].map((page) => untilColour(page, 2)));
    await expectPageFlow([ada, bob], 1);
    await reload(ada);
    await Promise.all([ada, bob].map((page) => untilColour(page, 2)));
    await press(ada, 'settings');
    await until(() => ada.$eval(choice, (select) => select.value === 'blue'), SOON_MS, 'the choice is shown');
    await expectPageFlow([ada, bob], 1);
  });
}

scenario('axe finds nothing, light and dark, desktop and phone', async (t) => {
  const session = 'product-axe';
  const url = `${rig.lyceum.url}/?${new URLSearchParams({ session, name: 'Ada' })}`;
  const lobby = await rig.open(t, 'chromium', url);
  await until(() => lobby.$('select[name="camera"]'), SOON_MS, 'the lobby');
  const [ada, bob] = await Promise.all([joinPage(rig, t, 'chromium', session, 'Ada'), joinPage(rig, t, 'chromium', session, 'Bob')]);
  await press(bob, 'camera');
  await press(bob, 'mic');
  await press(bob, 'hand');
  await until(() => ada.$('.raised'), SOON_MS, 'the hand');
  await press(bob, 'chat');
  await say(bob, 'Good morning');
  await until(() => ada.$('.badge'), SOON_MS, 'an unread message');
  const everywhere = (page, what) => clean(page, what, [DESKTOP, PHONE, LYING]);
  await everywhere(lobby, 'the lobby');
  await everywhere(ada, 'the call');
  for (const panel of ['people', 'chat', 'settings']) {
    await press(ada, panel);
    await until(() => ada.$(`.${panel}`), SOON_MS, panel);
    await everywhere(ada, panel);
  }
  await press(ada, 'leave');
  await until(() => ada.$('.ended'), SOON_MS, 'the call ends');
  await everywhere(ada, 'after the call');
});

for (const browserName of BROWSERS) {
  scenario(`with the keyboard alone in ${browserName}`, async (t) => {
    const session = `product-keys-${browserName}`;
    const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
    const page = await rig.open(t, browserName, `${rig.lyceum.url}/?${new URLSearchParams({ session, name: 'Kim', user: 'u-Kim' })}`);
    page.as = { name: 'Kim' };
    for (const shown of ['.preview video', 'select[name="camera"]', 'select[name="microphone"]']) {
      await until(() => page.$(shown), SOON_MS, `the page shows ${shown}`);
    }
    const focused = () => page.evaluate(() => document.activeElement.dataset.action ?? document.activeElement.getAttribute('name') ?? document.activeElement.localName);
    const tabTo = async (what) => {
      const passed = [];
      for (let presses = 0; presses < 20; presses++) {
        await page.keyboard.press('Tab');
        passed.push(await focused());
        if (passed.at(-1) === what) {
          const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
          assert.equal(ring, 'solid', `${what} has a ring`);
          return passed;
        }
      }
      throw new Error(`no ${what} among ${passed}`);
    };
    const order = await tabTo('join');
    // Firefox's fake devices have no loudspeaker to choose.
    const stops = order.filter((one) => one !== 'speaker').slice(-8);
    assert.deepEqual(stops, ['mic', 'camera', 'camera', 'microphone', 'test-speaker', 'name', 'session', 'join'], 'buttons, pickers, form');
    await page.keyboard.press('Enter');
    await untilNames(page, ['Ada', 'Kim (you)']);
    await tabTo('chat');
    await page.keyboard.press('Enter');
    await until(async () => (await focused()) === 'message', SOON_MS, 'the chat takes the focus');
    await page.keyboard.type('Typed');
    await page.keyboard.press('Enter');
    await untilWords(ada, '.spoken', /Message from Kim: Typed/);
    await page.keyboard.press('Escape');
    await until(async () => (await focused()) === 'chat', SOON_MS, 'the focus is back at the button');
    await tabTo('leave');
    await page.keyboard.press('Enter');
    await untilWords(page, '.ended', /You left the call/);
    await until(async () => (await focused()) === 'join', SOON_MS, 'the focus is where one joins again');
    await untilWords(ada, '.spoken', /Kim left/);
  });
}

scenario('without devices one joins, and is told in words', async (t) => {
  const session = 'product-bare';
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
  const bare = await joinPage(rig, t, 'chromium', session, 'Bare', {
    before: () => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'));
    },
  });
  await untilWords(bare, '.notice', /was not found/);
  await untilNames(bare, ['Ada', 'Bare (you)']);
  await until(() => bare.$eval('.tile[data-user="u-Ada"] video', (video) => video.videoWidth > 0), SOON_MS, 'Bare sees Ada');
});

for (const browserName of BROWSERS) {
  scenario(`a page that is not secure says so in ${browserName}, and one joins all the same`, async (t) => {
    // Another machine would see this: plain HTTP at an address that is not localhost.
    const address = rig.lyceum.url.replace('localhost', '10.77.0.1');
    const page = await rig.open(t, browserName, `${address}/?${new URLSearchParams({ session: 'product-insecure', name: 'Lan', user: 'u-Lan' })}`);
    page.as = { name: 'Lan' };
    await untilWords(page, '.faults', /plain HTTP.*http:\/\/localhost:\d+.*https:/);
    await clean(page, 'a page that is not secure');
    await press(page, 'join');
    await untilNames(page, ['Lan (you)']);
    await press(page, 'chat');
    await say(page, 'No camera here');
    await untilWords(page, '.messages', /No camera here/);
  });
}

async function say(page, text) {
  await until(() => page.$('.chat textarea'), SOON_MS, 'the chat opens');
  await page.type('.chat textarea', text);
  await page.keyboard.press('Enter');
}

scenario('a first offer that crosses the server\'s is made again, though Chromium cannot', async (t) => {
  const session = 'product-crossing';
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada');
  await untilNames(ada, ['Ada (you)']);
  await untilWay(ada, () => true, 'some way: she is connected');
  // Bob's devices open when he has joined, so that nothing is offered with the join; his first offer is made, and sent when the
  // server's has come.
  const crossing = () => {
    const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const small = { width: 320, height: 180, frameRate: 15 };
    const Native = window.RTCPeerConnection;
    const joined = new Promise((done) => {
      window.RTCPeerConnection = class extends Native {
        constructor(...args) {
          super(...args);
          done();
        }
      };
    });
    navigator.mediaDevices.getUserMedia = async (asked) => {
      await joined;
      return whole(asked.video ? { ...asked, video: { ...asked.video, ...small } } : asked);
    };
    const describe = RTCPeerConnection.prototype.setLocalDescription;
    let crossed = false;
    RTCPeerConnection.prototype.setLocalDescription = async function (...description) {
      await describe.apply(this, description);
      if (!crossed && this.signalingState === 'have-local-offer') {
        crossed = true;
        await new Promise((done) => this.addEventListener('signalingstatechange', () => this.signalingState === 'stable' && done()));
      }
    };
  };
  const bob = await joinPage(rig, t, 'chromium', session, 'Bob', { before: crossing });
  await expectPageFlow([ada, bob], 2);
});

scenario('a layer that is wanted again while it is being turned off is sent again', async (t) => {
  const session = 'product-wanted-again';
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada', {
    before: () => { // As Chromium does, but for seconds: a change that comes while another is under way is refused.
      const set = RTCRtpSender.prototype.setParameters;
      let busy = false;
      RTCRtpSender.prototype.setParameters = async function slow(parameters) {
        if (busy) throw new DOMException('another change is under way', 'InvalidStateError');
        busy = true;
        await set.call(this, parameters);
        window.off = parameters.encodings.every((encoding) => !encoding.active);
        await new Promise((done) => setTimeout(done, 3_000));
        busy = false;
      };
    },
  });
  await untilWay(ada, () => true, 'some way: she is connected');
  const viewer = await rig.layers(t, 'chromium', session, { user: 'viewer' });
  const frames = () => viewer.evaluate(() => window.seen().then((seen) => seen.frames));
  await until(async () => await frames() > 10, SOON_MS, 'the viewer sees Ada');
  await viewer.evaluate(() => window.want({ enabled: false }));
  await until(() => ada.evaluate(() => window.off), SOON_MS, 'Ada turns her layers off');
  await viewer.evaluate(() => window.want({ enabled: true, width: 320, height: 180 }));
  const before = await frames();
  await until(async () => await frames() > before + 30, SOON_MS, 'the viewer sees Ada again');
});
