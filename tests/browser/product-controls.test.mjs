// The call page's controls: an instructor's, those of layout and keyboard, chat, attendance; and what axe says of each.

import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, reload, until } from './rig.mjs';
import { DESKTOP, LYING, PHONE, clean, joinPage, press, smallCameraAndVoice, tileOf, untilMoving, untilNames, untilWords } from './product.mjs';

const SECRET = randomUUID() + randomUUID();
const ADMIN_KEY = `admin-${randomUUID()}`;

let rig;
before(async () => { rig = await openRig('product-controls', { JWT_SECRET: SECRET, LYCEUM_ADMIN_KEY: ADMIN_KEY }); }, { timeout: 300_000 });
after(() => rig?.close(), { timeout: 120_000 });

const other = BROWSERS.at(-1);
const scenario = (name, fn) => test(name, { timeout: 300_000 }, fn);
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A join token as the application signs it. */
function tokenFor(name, session, role) {
  const exp = Math.floor(Date.now() / 1000) + 3_600;
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ aud: 'lyceum', sub: `u-${name}`, name, sessionId: session, exp, role })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

const desktop = { width: 1100, height: 720 };
const enter = (t, browserName, session, name, role = 'participant') =>
  joinPage(rig, t, browserName, session, name, { token: tokenFor(name, session, role), viewport: desktop });

const shows = (page, selector) => until(() => page.$(selector), SOON_MS, `${page.as.name} is shown ${selector}`);
const hides = (page, selector) => until(async () => !(await page.$(selector)), SOON_MS, `${page.as.name} is not shown ${selector} any more`);
const isMuted = (page, name, muted) => shows(page, `${tileOf(name)}[data-muted="${muted}"]`);
const SIZES = [PHONE, LYING, DESKTOP];

/** Presses what the list of people offers for somebody. */
async function pressFor(page, name, action) {
  const row = `[data-person="u-${name}"]`;
  await until(() => page.evaluate((where) => {
    const button = document.querySelector(where);
    button?.click();
    return button !== null;
  }, `${row} [data-action="actions"]`), SOON_MS, `a menu for ${name}`);
  await shows(page, `${row} [data-action="${action}"]`);
  await page.$eval(`${row} [data-action="${action}"]`, (button) => button.click());
}

scenario('an instructor mutes, asks, lowers hands, promotes, locks, removes and ends', async (t) => {
  const session = 'controls';
  const ada = await enter(t, 'chromium', session, 'Ada', 'instructor');
  const [bob, cleo] = await Promise.all([enter(t, other, session, 'Bob'), enter(t, 'chromium', session, 'Cleo')]);
  await untilNames(ada, ['Ada (you)', 'Bob', 'Cleo']);
  await press(ada, 'people');
  await isMuted(ada, 'Bob', false);

  await pressFor(ada, 'Bob', 'mute');
  await isMuted(ada, 'Bob', true);
  await untilWords(bob, '.notice', /Ada muted you/);
  await pressFor(ada, 'Bob', 'ask-unmute');
  await untilWords(bob, '.notice', /Ada asks you to turn your microphone on/);
  await bob.$eval('.notice button', (button) => button.click());
  await isMuted(ada, 'Bob', false);
  await pressFor(ada, 'Bob', 'camera-off');
  await shows(ada, `${tileOf('Bob')} .initials`);

  await press(cleo, 'hand');
  await shows(ada, '[data-hand="u-Cleo"]');
  await press(bob, 'hand');
  const hands = () => ada.$$eval('[data-hand]', (all) => all.map((one) => one.dataset.hand).join());
  await until(async () => (await hands()) === 'u-Cleo,u-Bob', SOON_MS, 'the hands stand in their order');
  await clean(ada, 'people with hands', SIZES);
  await ada.$eval('[data-hand="u-Cleo"] [data-action="lower"]', (button) => button.click());
  await untilWords(cleo, '.notice', /Ada lowered your hand/);
  await until(async () => (await hands()) === 'u-Bob', SOON_MS, 'one hand is left');

  await press(ada, 'mute-all');
  await press(ada, 'confirm-mute-all');
  await isMuted(ada, 'Cleo', true);
  await isMuted(ada, 'Ada', false);

  await pressFor(ada, 'Cleo', 'promote');
  await shows(ada, 'dialog[open]');
  await clean(ada, 'a question', SIZES);
  await press(ada, 'confirm-promote');
  await shows(cleo, '[data-action="end"]');
  await pressFor(ada, 'Cleo', 'demote');
  await hides(cleo, '[data-action="end"]');

  await ada.evaluate(() => document.querySelector('#more').showPopover());
  await clean(ada, 'the menu', SIZES);
  await press(ada, 'lock');
  await shows(ada, '.where [role="img"]');
  const dan = await rig.open(t, 'chromium', `${rig.lyceum.url}/#token=${tokenFor('Dan', session, 'participant')}`);
  dan.as = { name: 'Dan' };
  await press(dan, 'join');
  await untilWords(dan, '.ended', /This call is locked/);
  await press(ada, 'lock');
  await hides(ada, '.where [role="img"]');
  await press(dan, 'join');
  await shows(ada, tileOf('Dan'));

  await pressFor(ada, 'Dan', 'remove');
  await press(ada, 'confirm-remove');
  await untilWords(dan, '.ended', /removed from this call/);
  await untilNames(ada, ['Ada (you)', 'Bob', 'Cleo']);
  await press(ada, 'leave'); // the last instructor is asked
  await untilWords(ada, 'dialog', /go on without an instructor/);
  await press(ada, 'confirm-end');
  for (const page of [ada, bob, cleo]) await untilWords(page, '.ended', /This call has ended/);
});

scenario('attendance, during the meeting and after it', async (t) => {
  const session = 'attended';
  const ada = await enter(t, other, session, 'Ada', 'instructor');
  const bob = await enter(t, 'chromium', session, 'Bob');
  await untilNames(ada, ['Ada (you)', 'Bob']);
  assert.equal(await bob.$('[data-action="attendance"]'), null, 'not for students');
  const rows = () => ada.$$eval('[data-attendee]', (all) => all.map((one) => `${one.dataset.attendee} ${one.children.length}`).sort().join());
  await press(ada, 'attendance');
  await until(async () => {
    await press(ada, 'refresh'); // facts are written down a little later
    return (await rows()) === 'u-Ada 5,u-Bob 5';
  }, SOON_MS, async () => `two rows, not ${await rows()}`);
  await shows(ada, '.timeline rect.instructor');
  assert.match(await ada.$eval('.timeline', (svg) => svg.getAttribute('aria-label')), /2 people, from/);
  await untilWords(ada, 'dialog', /goes on/);
  await clean(ada, 'attendance');
  const csv = await ada.evaluate(async () => {
    const made = new Promise((done) => { URL.createObjectURL = (blob) => { done(blob.text()); return 'blob:x'; }; });
    HTMLAnchorElement.prototype.click = () => {}; // nothing is to be saved here
    document.querySelector('[data-action="csv"]').click();
    return made;
  });
  assert.match(csv, /^\ufeff?meeting_id,.*\r\n.*attended,u-Ada,Ada,instructor/);
  await ada.keyboard.press('Escape');
  await hides(ada, 'dialog[open]');
  await press(bob, 'leave');
  await untilNames(ada, ['Ada (you)']);
  await reload(ada); // the tab keeps its token
  await untilNames(ada, ['Ada (you)']);
  await press(ada, 'leave');
  await untilWords(ada, '.ended', /You left/);
  await press(ada, 'attendance');
  await until(async () => (await rows()) === 'u-Ada 5,u-Bob 5', SOON_MS, 'the same afterwards');
  await clean(ada, 'attendance afterwards');
});

for (const browserName of BROWSERS) {
  scenario(`views, pins, pages, audio only and keys in ${browserName}`, async (t) => {
    const session = `views-${browserName}`;
    const sizes = browserName === 'chromium' ? SIZES : [];
    const ada = await enter(t, browserName, session, 'Ada');
    const bob = await enter(t, 'chromium', session, 'Bob');
    await enter(t, 'chromium', session, 'Cleo');
    await untilNames(ada, ['Ada (you)', 'Bob', 'Cleo']);

    await ada.$eval(`${tileOf('Bob')} .pin`, (button) => button.click());
    await shows(ada, `.focus ${tileOf('Bob')}.large`);
    await untilMoving(ada, 'Bob');
    await clean(ada, 'a pinned picture', sizes);
    await ada.keyboard.press('w'); // a pin goes before any view
    await shows(ada, `.focus ${tileOf('Bob')}.large`);
    await ada.$eval(`${tileOf('Bob')} .pin`, (button) => button.click());
    await shows(ada, '.focus .tile.large');
    await ada.keyboard.press('w');
    await hides(ada, '.focus');

    await press(ada, 'audio-only');
    await shows(ada, `${tileOf('Bob')} .initials`);
    await untilWords(ada, '.presenting', /Audio only/);
    await press(ada, 'audio-only');
    await untilMoving(ada, 'Bob');

    await ada.setViewport({ width: 250, height: 330 }); // too small for three
    await untilWords(ada, '.pager', /1 of \d/);
    const seen = await ada.$$eval('.tile', (all) => all.length);
    assert.ok(seen < 3, `${seen} tiles on a page`);
    await press(ada, 'next');
    await untilWords(ada, '.pager', /2 of \d/);
    await clean(ada, 'pages');
    await ada.setViewport(desktop);
    await untilNames(ada, ['Ada (you)', 'Bob', 'Cleo']);

    await ada.keyboard.press('m');
    await isMuted(bob, 'Ada', true);
    await ada.evaluate(() => document.activeElement?.blur());
    await ada.keyboard.down(' ');
    await isMuted(bob, 'Ada', false);
    await ada.keyboard.up(' ');
    await isMuted(bob, 'Ada', true);
    await ada.keyboard.press('r');
    await shows(bob, `${tileOf('Ada')} .raised`);
    await press(ada, 'react');
    await untilWords(bob, `${tileOf('Ada')} .reaction`, /👍/);
    await ada.keyboard.press('?');
    await shows(ada, 'dialog.help[open]');
    await clean(ada, 'the list of keys', sizes);
    await ada.keyboard.press('Escape');
    await hides(ada, 'dialog[open]');
    await press(ada, 'stats');
    await untilWords(ada, '.stats', /kbit\/s/);
    await clean(ada, 'numbers', sizes);
    await press(ada, 'settings');
    await ada.$eval('input[name="shortcuts"]', (box) => box.click());
    await ada.evaluate(() => document.activeElement?.blur());
    await ada.keyboard.press('m');
    await ada.keyboard.press('p');
    assert.equal(await ada.$('.people'), null, 'shortcuts can be switched off');
    await isMuted(bob, 'Ada', true);
  });
}

scenario('a link to invite is the one that the application names', async (t) => {
  const session = 'invited';
  const ada = await enter(t, 'chromium', session, 'Ada', 'instructor');
  await press(ada, 'people');
  await untilWords(ada, '[data-invite="none"]', /each person gets a link of their own/);
  await clean(ada, 'no link for all', SIZES);
  const joinUrl = 'https://school.example/algebra?from=call';
  const named = async (metadata) => {
    const answer = await fetch(`${rig.lyceum.url}/v1/sessions/${session}`, {
      method: 'PUT', headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' }, body: JSON.stringify({ metadata }),
    });
    assert.equal(answer.status, 200, await answer.text());
  };
  await named({ joinUrl });
  await until(() => ada.evaluate((url) => document.querySelector('input[name="invite"]')?.value === url, joinUrl), SOON_MS, 'the link that the application named');
  await named({ joinUrl: 'javascript:alert(1)' });
  await shows(ada, '[data-invite="none"]');
});

/** Devices that come and go, a screen that is kept lit, and loudspeakers that are asked for. Runs in the page. */
function watchedDevices() {
  const kinds = { camera: 'videoinput', microphone: 'audioinput', speaker: 'audiooutput' };
  window.plugged = ['camera one', 'microphone one', 'speaker one', 'speaker two'];
  navigator.mediaDevices.enumerateDevices = async () => window.plugged.map((label) => ({ kind: kinds[label.split(' ')[0]], deviceId: label, label: `The ${label}` }));
  const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (asked) => {
    const [[kind, wanted]] = Object.entries(asked);
    return whole({ [kind]: wanted instanceof Object ? { ...wanted, deviceId: undefined } : wanted }); // the browser's own have other names
  };
  window.locks = [];
  Object.defineProperty(navigator, 'wakeLock', { value: { async request(type) {
    const lock = { type, held: true, async release() { this.held = false; this.onrelease?.(); } };
    window.locks.push(lock);
    return lock;
  } } });
  window.sinks = [];
  window.played = [];
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.setSinkId = async (id) => { window.sinks.push(id); };
  HTMLMediaElement.prototype.play = function noted() {
    if (this.localName === 'audio') window.played.push(this.srcObject);
    return play.call(this);
  };
}

scenario('devices come and go, the loudspeaker is tried, the screen stays lit, and who speaks muted is told', async (t) => {
  const session = 'senses';
  const before = `(${watchedDevices})(); (${smallCameraAndVoice})();`;
  const page = await rig.open(t, 'chromium', `${rig.lyceum.url}/#token=${tokenFor('Ada', session, 'participant')}`, { before, viewport: desktop });
  page.as = { name: 'Ada' };
  const offered = (kind) => page.evaluate((name) => [...document.querySelectorAll(`select[name="${name}"] option`)].map((one) => one.textContent).join(), kind);
  await until(async () => (await offered('speaker')) === 'The speaker one,The speaker two', SOON_MS, 'loudspeakers to choose from');
  await page.select('select[name="speaker"]', 'speaker two');
  await press(page, 'test-speaker');
  const tone = await until(() => page.evaluate(() => window.played.length && window.probe.toneOf(window.played.at(-1))), SOON_MS, 'a sound');
  assert.ok([523, 659, 784].some((note) => Math.abs(tone - note) < 15), `${tone} Hz`);
  assert.deepEqual(await page.evaluate(() => window.sinks), ['speaker two']);
  const plug = (devices) => page.evaluate((now) => {
    window.plugged = now;
    navigator.mediaDevices.dispatchEvent(new Event('devicechange'));
  }, devices);
  await plug(['camera one', 'camera two', 'microphone one', 'speaker two']);
  await until(async () => (await offered('camera')) === 'The camera one,The camera two', SOON_MS, 'the camera that was plugged in');
  assert.equal(await offered('speaker'), 'The speaker two');

  assert.deepEqual(await page.evaluate(() => window.locks.length), 0, 'nothing is kept lit before the call');
  await press(page, 'join');
  await shows(page, tileOf('Ada'));
  const lit = () => page.evaluate(() => window.locks.map(({ type, held }) => `${type} ${held}`).join());
  await until(async () => (await lit()) === 'screen true', SOON_MS, 'the screen is kept lit');
  await page.evaluate(() => { // as the browser does when one looks elsewhere and comes back
    void window.locks[0].release();
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await until(async () => (await lit()) === 'screen false,screen true', SOON_MS, 'and again after a look elsewhere');

  await press(page, 'mic');
  await untilWords(page, '.notice', /You are muted/);
  await clean(page, 'speaking while muted');
  await page.$eval('.notice button', (button) => button.click());
  await shows(page, `${tileOf('Ada')}[data-muted="false"]`);

  await press(page, 'leave');
  await untilWords(page, '.ended', /You left/);
  assert.equal(await lit(), 'screen false,screen false');
});

scenario('chat: links, what was said before, a place that does not jump, and a draft that is not lost', async (t) => {
  const session = 'chatting';
  const bob = await enter(t, 'chromium', session, 'Bob');
  await press(bob, 'chat');
  const say = async (text) => {
    await until(() => bob.$('.chat textarea'), SOON_MS, 'the chat');
    await bob.type('.chat textarea', text);
    await bob.keyboard.press('Enter');
  };
  await say('Read https://example.org/a_(b)?c=1, or <b>http://x.test</b>. javascript:alert(1)');
  const ada = await enter(t, other, session, 'Ada');
  await press(ada, 'chat');
  const links = () => ada.$$eval('.messages a', (all) => all.map((one) => `${one.getAttribute('href')} ${one.target} ${one.rel}`));
  await until(async () => (await links()).length === 2, SOON_MS, 'what was said before one came, with its links');
  assert.deepEqual(await links(), ['https://example.org/a_(b)?c=1', 'http://x.test'].map((href) => `${href} _blank noopener noreferrer nofollow`));
  assert.equal(await ada.$('[data-action="chat"] .badge'), null, 'what was said before is not unread');
  await bob.evaluate(() => { for (const one of document.querySelectorAll('.messages')) one.style.maxHeight = '120px'; });
  await ada.setViewport({ width: 800, height: 500 });
  for (let at = 0; at < 12; at++) await say(`Line ${at}`);
  await untilWords(ada, '.messages', /Line 11/);
  const top = () => ada.$eval('.messages ol', (list) => list.scrollTop);
  await until(async () => (await top()) > 0, SOON_MS, 'the latest are in sight');
  await ada.$eval('.messages ol', (list) => { list.scrollTop = 0; });
  await shows(ada, '.latest');
  await say('One more');
  await untilWords(ada, '.latest', /1 new message/);
  assert.equal(await top(), 0, 'who reads further up is left there');
  await clean(ada, 'chat with new messages');
  await ada.$eval('.latest', (button) => button.click());
  await hides(ada, '.latest');
  await ada.type('.chat textarea', 'Not sent');
  await press(ada, 'leave');
  await untilWords(ada, 'dialog', /was not sent/);
  await press(ada, 'cancel');
  await hides(ada, 'dialog[open]');
  await press(ada, 'leave');
  await press(ada, 'confirm-leave');
  await untilWords(ada, '.ended', /You left/);
});

scenario('a browser that holds back sound: a button brings it, and so does any touch', async (t) => {
  const session = 'held-back';
  const bob = await enter(t, other, session, 'Bob');
  const ada = await joinPage(rig, t, 'chromium', session, 'Ada', {
    token: tokenFor('Ada', session, 'participant'),
    before: () => { // as browsers do on a page that nobody has touched
      const play = HTMLMediaElement.prototype.play;
      HTMLMediaElement.prototype.play = function hold() {
        return this.localName === 'audio' && !window.touched ? Promise.reject(new DOMException('', 'NotAllowedError')) : play.call(this);
      };
    },
  });
  await untilMoving(ada, 'Bob');
  await shows(ada, '.unlock');
  await clean(ada, 'sound that is held back');
  await ada.evaluate(() => { window.touched = true; document.querySelector('.unlock').click(); });
  await hides(ada, '.unlock');
  await until(() => ada.evaluate(() => [...document.querySelectorAll('audio')].every((one) => !one.paused)), SOON_MS, 'the sound plays');
  assert.equal(await bob.$('.unlock'), null);
});
