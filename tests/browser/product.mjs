// How the tests use the product's call page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { expectGrowth } from './expect.mjs';
import { SOON_MS, until } from './rig.mjs';

/** Presses a button as soon as the page shows it. */
export const press = (page, action) => until(() => page.evaluate((name) => {
  const button = document.querySelector(`[data-action="${name}"]`);
  button?.click();
  return button !== null;
}, action), SOON_MS, `${page.as?.name ?? 'the page'} has a button ${action}`);

/** Opens the call page, fills in nothing (the address says all, or the join token `token` in it) and joins. The user is `u-<name>`. */
export async function joinPage(rig, t, browserName, session, name, options = {}) {
  const { query = {}, token, url = rig.lyceum.url, voice = false, ...rest } = options;
  const user = `u-${name}`;
  const address = `${url}/?${token ? `#token=${token}` : new URLSearchParams({ session, name, user, ...query })}`;
  // A headless browser has no screen to share: a canvas stands in.
  const page = await rig.open(t, browserName, address, { before: voice ? smallCameraAndVoice : smallCamera, ...rest });
  await page.evaluate(standInForTheScreen);
  page.as = { user, name };
  await until(() => page.$('[data-action="join"]'), SOON_MS, 'the page shows its form');
  if (!rest.before) await until(() => page.$('.preview video'), SOON_MS, 'the preview shows the camera');
  page.joinedAt = Date.now();
  await press(page, 'join');
  await until(() => page.$(`.tile[data-user="${user}"]`), SOON_MS, `${name} is in the call`);
  return page;
}

/** The machine that runs the tests is small: so are the pictures. */
export function smallCamera() {
  const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const small = { width: 320, height: 180, frameRate: 15 };
  navigator.mediaDevices.getUserMedia = (asked) => whole(asked.video ? { ...asked, video: { ...asked.video, ...small } } : asked);
}

/** The fake microphone beeps too briefly for a speaker: here somebody hums. */
export function smallCameraAndVoice() {
  const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const small = { width: 320, height: 180, frameRate: 15 };
  navigator.mediaDevices.getUserMedia = async (asked) => {
    const devices = await whole(asked.video ? { ...asked, video: { ...asked.video, ...small } } : asked);
    if (asked.video) return devices;
    const context = new AudioContext();
    const voice = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    const hum = new OscillatorNode(context, { frequency: 220 });
    hum.connect(new GainNode(context, { gain: 0.4 })).connect(voice);
    hum.start();
    return voice.stream;
  };
}

function standInForTheScreen() {
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const context = canvas.getContext('2d');
    let count = 0;
    setInterval(() => {
      context.fillStyle = '#f6f7fa';
      context.fillRect(0, 0, 1280, 720);
      context.fillStyle = '#2f52d0';
      context.font = '64px sans-serif';
      context.fillText('Week 3: congestion control', 120, 200);
      for (let bar = 0; bar < 9; bar++) context.fillRect(120 + bar * 110, 600 - ((bar * 37 + count) % 280), 70, (bar * 37 + count) % 280);
      count++;
    }, 100);
    return canvas.captureStream();
  };
}

/** The names on the tiles, sorted. */
export const names = (page) => page.$$eval('.tile[data-user] .name', (all) => all.map((one) => one.textContent.trim()).sort());
export const untilNames = (page, expected, ms = SOON_MS) => until(
  async () => JSON.stringify(await names(page)) === JSON.stringify([...expected].sort()),
  ms, `tiles of ${expected}`,
);

export const tileOf = (user) => `.tile[data-user="u-${user}"]`;

/** Waits until `page` shows words that `pattern` matches, in an element that is seen. */
export const untilWords = (page, selector, pattern, ms = SOON_MS) => until(() => page.evaluate((where, source) => {
  const seen = [...document.querySelectorAll(where)].filter((one) => one.checkVisibility()).map((one) => one.textContent);
  // What is shown for seconds only may have gone before a busy browser looks.
  const passed = window.passed.filter(({ element, kind }) => (element.isConnected ? element.matches(where) : where.endsWith(kind))).map((one) => one.text);
  return [...seen, ...passed].some((text) => new RegExp(source).test(text));
}, selector, pattern.source), ms, `${page.as?.name ?? 'the page'} reads ${pattern} in ${selector}`);

/** Waits until the page's own statistics, which come some time after the media, name the way it goes: one that `accept` takes. */
export const untilWay = (page, accept, what) => until(async () => {
  const way = await page.evaluate(() => window.probe.way());
  return way.type && accept(way) && way;
}, SOON_MS, `the media of ${page.as.user} (${page.browserName}) goes ${what}`);

/** Waits until the picture in the tile of `user` is seen and moves. */
export async function untilMoving(page, user, ms = SOON_MS, tile = tileOf(user)) {
  let seen;
  await until(async () => {
    seen = await page.evaluate(lookForMovement, tile);
    return seen === 'moves';
  }, ms, () => `${page.as.name} (${page.browserName}) sees ${user} move: ${JSON.stringify(seen)}`);
}

/** `moves`, or what there is instead. Runs in the page. */
async function lookForMovement(selector) {
  const tile = document.querySelector(selector);
  const video = tile?.querySelector('video');
  if (!video) return tile ? tile.textContent : 'no tile';
  const look = () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 36 });
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(video, 0, 0, 64, 36);
    return context.getImageData(0, 0, 64, 36).data.join();
  };
  const seen = getComputedStyle(video).opacity !== '0';
  const first = look();
  for (let tries = 0; seen && tries < 20; tries++) {
    await new Promise((done) => setTimeout(done, 50));
    if (look() !== first) return 'moves';
  }
  const { width, height } = video.getBoundingClientRect();
  const tracks = video.srcObject?.getTracks().map((track) => `${track.kind} ${track.readyState}${track.muted ? ' muted' : ''}`);
  const counted = (await window.probe.counters())[tile.dataset.participant];
  return { seen, width, height, ready: video.readyState, paused: video.paused, tracks, words: tile.textContent, counted };
}

/** Everyone sees everyone move. */
export const untilAllMove = (pages, ms = SOON_MS) => Promise.all(
  pages.flatMap((page) => pages.filter((one) => one !== page).map((one) => untilMoving(page, one.as.name, ms))),
);

/** Everyone sees everyone move, and in each window of 2 s frames and sound grow for every pair, as `expectGrowth` means it. */
export async function expectPageFlow(pages, windows) {
  const look = () => Promise.all(pages.map((page) => page.evaluate(async () => {
    const found = await window.probe.counters();
    const tiles = [...document.querySelectorAll('.tile[data-user]')];
    return Object.fromEntries(tiles.map((tile) => [
      tile.dataset.user,
      { frames: 0, energy: 0, ...found[tile.dataset.participant], paused: tile.querySelector('.veil.still-word:not(.low)') !== null },
    ]));
  })));
  const pairs = pages.flatMap((page, at) => pages.filter((one) => one !== page).map(({ as: { user } }) => (
    { user, at, name: `${user} → ${page.as.user} (${page.browserName})` })));
  let seen;
  await untilAllMove(pages);
  await until(async () => {
    seen = await look();
    return pairs.every(({ user, at }) => seen[at][user]?.frames > 0 && seen[at][user]?.energy > 0);
  }, SOON_MS, () => `first frames and sound of every pair; ${JSON.stringify(seen)}`);
  await expectGrowth(pairs, look, windows);
}

const AXE = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const RULES = { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] };
/** All that another set of colours can break. */
const COLOURS = { type: 'rule', values: ['color-contrast', 'link-in-text-block'] };

/** Faults that axe finds in what the page shows now. */
export async function faults(page, runOnly = RULES) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const { violations } = await page.evaluate((rules) => window.axe.run({ runOnly: rules, resultTypes: ['violations'] }), runOnly);
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary}`));
}

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
export const LYING = { width: 844, height: 390 };

/**
 * Nothing is wrong with what the page shows, dark and light, in windows of these sizes, of which the last stays; in its own if none
 * is named. Firefox, which cannot be told which colours are preferred, is looked at in its own.
 */
export async function clean(page, what, sizes = []) {
  const themes = page.browserName === 'chromium' ? [['dark', RULES], ['light', COLOURS]] : [['its own colours', RULES]];
  for (const size of sizes.length ? sizes : [page.viewport()]) {
    if (sizes.length) await page.setViewport(size);
    for (const [value, rules] of themes) {
      if (themes.length > 1) await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]);
      assert.deepEqual(await faults(page, rules), [], `${what}, ${size.width} wide, ${value}`);
    }
    const { wide, seen } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, seen: document.documentElement.clientWidth }));
    assert.ok(wide <= seen, `${what} is ${wide} wide in a window of ${seen}`);
  }
}
