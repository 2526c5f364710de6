// The client package as its README shows it: the snippet there holds a call, and what else a room can do without a page of ours.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { PEOPLE, isColour } from './expect.mjs';
import { BROWSERS, SOON_MS, openRig, until } from './rig.mjs';

const web = new URL('../../web/', import.meta.url);
const readme = readFileSync(new URL('packages/client/README.md', web), 'utf8');
const [, snippet] = /## A call in 20 lines\s+```js\n([^]*?)```/.exec(readme);

/** What the page adds to the snippet is only a way for the test to look in. */
const WORDS = { url: `'http://localhost:3001'`, session: `'algebra'`, name: `'Ada'` };

let rig;
let pages;
before(async () => {
  pages = await servePage(); // first: a rig that nobody closes would never let this process end
  rig = await openRig('sdk');
}, { timeout: 300_000 });
after(async () => {
  pages?.close();
  await rig?.close();
}, { timeout: 120_000 });

/** Bundles the snippet against the sources, as an application's bundler would. */
async function servePage() {
  const { build } = await import(pathToFileURL(createRequire(new URL('package.json', web)).resolve('vite')).href);
  const id = '\0snippet';
  let code = `${snippet}\nObject.assign(window, { room, media });`;
  for (const [name, word] of Object.entries(WORDS)) {
    assert.equal(code.split(word).length, 2, `the snippet says ${word} once`);
    code = code.replace(word, `window.query.${name}`);
  }
  const built = await build({
    root: fileURLToPath(new URL('packages/client/', web)),
    configFile: false,
    logLevel: 'warn',
    plugins: [{ name: 'snippet', resolveId: (name) => (name === id ? id : null), load: (name) => (name === id ? code : null) }],
    resolve: { alias: { '@lyceum/client': fileURLToPath(new URL('packages/client/src/index.ts', web)) } },
    build: { write: false, target: 'es2022', rollupOptions: { input: id } },
  });
  const script = [built].flat()[0].output.find((one) => one.type === 'chunk').code;
  const page = '<!doctype html><meta charset="utf-8"><script>window.query = Object.fromEntries(new URLSearchParams(location.search))</script>'
    + '<script type="module" src="snippet.js"></script>';
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    if (pathname === '/') return response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page);
    if (pathname === '/snippet.js') return response.writeHead(200, { 'content-type': 'text/javascript' }).end(script);
    return response.writeHead(204).end(); // the browsers ask for a favicon
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://localhost:${server.address().port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Stands in for camera and microphone: one colour with a bar that moves, and one tone that needs no sound hardware. In the page. */
function colourAndTone() {
  const picture = (colour) => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 });
    const context = canvas.getContext('2d');
    let at = 0;
    setInterval(() => {
      context.fillStyle = colour;
      context.fillRect(0, 0, 320, 180);
      context.fillStyle = '#888';
      context.fillRect((at++ * 4) % 320, 0, 8, 180);
    }, 1000 / 15);
    return canvas.captureStream();
  };
  const tone = async (hertz) => {
    const rate = 8000;
    const n = rate * 240;
    const header = new Uint32Array([0x46464952, n + 36, 0x45564157, 0x20746d66, 16, 0x10001, rate, rate, 0x80001, 0x61746164, n]);
    const samples = Uint8Array.from({ length: n }, (_, i) => 128 + 40 * Math.sin((2 * Math.PI * hertz * i) / rate));
    const audio = new Audio(URL.createObjectURL(new Blob([header, samples], { type: 'audio/wav' })));
    const stream = (audio.captureStream ?? audio.mozCaptureStream).call(audio);
    await audio.play();
    return stream;
  };
  const { colour, tone: hertz } = Object.fromEntries(new URLSearchParams(location.search));
  navigator.mediaDevices.getUserMedia = async (asked) => (asked.video ? picture(colour) : tone(Number(hertz)));
}

async function join(t, browserName, session, as) {
  const query = new URLSearchParams({ url: rig.lyceum.url, session, name: as.user, colour: as.colour, tone: as.tone });
  const page = await rig.open(t, browserName, `${pages.url}/?${query}`, { before: colourAndTone });
  page.as = as;
  return page;
}

/** What a page shows of each participant, by name: the colour of its picture and the pitch of its sound. */
const shown = (page) => page.evaluate(async () => {
  const elements = [...document.querySelectorAll('[data-participant]')];
  const seen = {};
  for (const { participantId, userName } of window.room.state.participants) {
    const of = (kind) => elements.find((one) => one.dataset.participant === participantId && one.localName === kind);
    const [video, audio] = [of('video'), of('audio')];
    if (video || audio) seen[userName] = { colour: video && window.probe.colourOf(video), tone: audio && await window.probe.toneOf(audio.srcObject) };
  }
  return seen;
});

async function untilShown(page, others) {
  let seen;
  await until(async () => {
    seen = await shown(page);
    return Object.keys(seen).sort().join() === others.map(({ user }) => user).sort().join()
      && others.every(({ user, colour, tone }) => isColour(seen[user].colour, colour) && Math.abs((seen[user].tone ?? 0) - tone) <= 12);
  }, SOON_MS, () => `${page.as.user} (${page.browserName}) sees and hears ${others.map(({ user }) => user)}: ${JSON.stringify(seen)}`);
}

const state = (page, look) => page.evaluate(`(({ state }) => ${look})(window.room)`);

test('the snippet of the README has about 20 lines', () => {
  assert.ok(snippet.trim().split('\n').length <= 24, snippet);
});

test('the snippet of the README holds a call, in each browser', { timeout: 300_000 }, async (t) => {
  const session = 'sdk';
  const people = PEOPLE.slice(0, 2);
  const all = await Promise.all(people.map((as, at) => join(t, BROWSERS[at % BROWSERS.length], session, as)));
  const [ada, bob] = all;
  await Promise.all(all.map((page) => untilShown(page, people.filter((one) => one !== page.as))));

  await t.test('chat, hands and reactions', async () => {
    await bob.evaluate(() => window.room.on('reaction', (what) => { window.reaction = what.emoji; }));
    assert.equal(await ada.evaluate(() => window.room.say('Good morning')), '');
    assert.equal(await ada.evaluate(() => window.room.raiseHand(true)), '');
    assert.equal(await ada.evaluate(() => window.room.react('👏')), '');
    await until(() => state(bob, 'state.messages.at(-1)?.message === "Good morning"'), SOON_MS, 'the message');
    await until(() => state(bob, 'state.hands.join() === state.participants.find((one) => one.userName === "ada").participantId'), SOON_MS, 'the hand');
    await until(() => bob.evaluate(() => window.reaction === '👏'), SOON_MS, 'the reaction');
    assert.equal(await ada.evaluate(() => window.room.moderate({ action: 'mute-all' })), 'session/forbidden');
  });

  await t.test('data, to all and to one', async () => {
    for (const page of all) {
      await page.evaluate(() => {
        window.heard = [];
        window.room.on('data', ({ label, data }) => window.heard.push(`${label}: ${typeof data === 'string' ? data : new Uint8Array(data)}`));
      });
    }
    const heard = async (page, to, words, send) => until(async () => {
      await page.evaluate(send);
      return to.evaluate((line) => window.heard.includes(line), words);
    }, SOON_MS, words); // nothing is kept for those who open their channel later
    await heard(ada, bob, 'data: hello', () => window.room.send('data', 'hello'));
    await heard(bob, ada, 'data-lossy: 1,10,2', () => {
      const { ownId, participants } = window.room.state;
      window.room.send('data-lossy', new Uint8Array([1, 10, 2]).buffer, participants.map((one) => one.participantId).filter((id) => id !== ownId));
    });
  });

  await t.test('stats have numbers of each direction', async () => {
    for (const page of all) {
      let stats;
      await until(async () => {
        stats = await page.evaluate(() => window.room.stats());
        const is = (direction, source) => stats.tracks.some((one) => one.direction === direction && one.source === source && one.kbps > 0 && one.codec);
        return ['in', 'out'].every((direction) => is(direction, 'camera') && is(direction, 'microphone')) && stats.path === 'udp';
      }, SOON_MS, () => `${page.browserName}: ${JSON.stringify(stats)}`);
    }
  });

  await t.test('a muted microphone sends nothing, and its level is still to be seen', async () => {
    // An AudioContext of Firefox does not run on a machine without sound hardware.
    const [page] = all.filter((one) => one.browserName === 'chromium');
    if (!page) return;
    const level = () => page.evaluate(() => window.media.level());
    await until(async () => await level() > 0.2, SOON_MS, 'a level');
    await page.evaluate(() => window.media.setMicrophone(false));
    assert.deepEqual(await page.evaluate(() => [window.media.state.microphoneOn, window.media.state.microphone.enabled]), [false, false]);
    await until(async () => await level() > 0.2, SOON_MS, 'a level although it is muted');
    await page.evaluate(() => window.media.setMicrophone(true));
  });

  await t.test('audio only: no pictures, and then again', async () => {
    const frames = () => bob.evaluate(async () => Object.values(await window.probe.counters()).reduce((sum, one) => sum + one.frames, 0));
    await until(async () => await frames() > 0, SOON_MS, 'pictures');
    await bob.evaluate(() => window.room.setAudioOnly(true));
    let [before, now] = [await frames(), 0];
    await until(async () => { // in the time between two looks some frames would have come
      now = await frames();
      const still = now === before;
      before = now;
      await new Promise((done) => setTimeout(done, 500));
      return still && await frames() === now;
    }, SOON_MS, 'the picture stands still');
    await bob.evaluate(() => window.room.setAudioOnly(false));
    await until(async () => await frames() > now + 5, SOON_MS, 'the picture moves again');
  });

  await t.test('muted, off and gone', async () => {
    const ofAda = (source) => `state.participants.find((one) => one.userName === 'ada').tracks.find((one) => one.source === '${source}').muted`;
    await ada.evaluate(() => window.media.setMicrophone(false));
    await until(() => state(bob, `${ofAda('microphone')} === true`), SOON_MS, 'the microphone is muted');
    await ada.evaluate(() => window.media.setCamera(false));
    await until(() => state(bob, `${ofAda('camera')} === true`), SOON_MS, 'the camera is off');
    await ada.evaluate(() => window.room.leave());
    assert.equal(await ada.evaluate(() => document.title), 'You left the call.');
    await until(() => bob.evaluate(() => !document.querySelector('[data-participant]')), SOON_MS, 'nothing of Ada is left');
    await ada.evaluate(() => { void window.media.start(); window.room.join(); });
    await until(() => state(ada, 'state.status === "joined"'), SOON_MS, 'Ada is back');
    await ada.evaluate(() => Promise.all([window.media.setMicrophone(true), window.media.setCamera(true)]));
    await untilShown(bob, [ada.as]);
  });
});
