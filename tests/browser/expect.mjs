// What must be true of a call, said once for all scenarios.

import assert from 'node:assert/strict';
import { SOON_MS, pass, until } from './rig.mjs';

/** Eight people whose colours and tones cannot be taken for one another, whatever a codec does to them. */
export const PEOPLE = [
  ['ada', '#e00000', 440], ['bob', '#00c000', 640], ['cleo', '#0000f0', 840], ['dan', '#e0e000', 1040],
  ['eve', '#e000e0', 1240], ['fay', '#00d0e0', 1440], ['gus', '#f0f0f0', 1640], ['hal', '#909090', 1840],
].map(([user, colour, tone]) => ({ user, colour, tone }));

/** Colours for screens and for second tabs. */
export const SPARE = { orange: '#ff8000', violet: '#7000ff' };

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

const distance = (seen, hex) => Math.hypot(...rgb(hex).map((value, at) => value - seen[at]));
const ALL = [...PEOPLE.map(({ colour }) => colour), ...Object.values(SPARE)];

/**
 * True if `seen` is nearer to `hex` than to any other colour of these tests, and near: the coarsest quantiser, to which an
 * encoder resorts on a busy machine, shifts a colour by up to 60, and no two of them are less than 100 apart.
 */
export function isColour(seen, hex) {
  return Array.isArray(seen) && distance(seen, hex) <= 90
    && ALL.every((other) => other === hex || distance(seen, hex) < distance(seen, other));
}

const isTone = (seen, tone) => seen !== null && Math.abs(seen - tone) <= 12;

const others = (pages, page) => pages.filter((other) => other !== page && !other.as.recv);

/** Waits until each page shows a tile for exactly the others, each with their own colour and tone. */
export async function untilContent(pages, ms = SOON_MS) {
  const looks = await Promise.allSettled(pages.map(async (page) => {
    let wrong;
    await until(async () => {
      const seen = await page.evaluate(() => window.probe.content());
      wrong = contentFault(seen, others(pages, page));
      return wrong === null;
    }, ms, () => `${page.as.user} (${page.browserName}) sees and hears everyone as themselves; ${wrong}`);
  }));
  // Of a pair that does not meet both ends are told of.
  const faults = await Promise.all(looks.map(async (look, at) => look.status === 'rejected'
    && `${look.reason.message}; counters ${JSON.stringify(await pages[at].evaluate(() => window.probe.counters()).catch(({ message }) => message))}`));
  assert.deepEqual(faults.filter(Boolean), []);
}

function contentFault(seen, expected) {
  const names = expected.map((page) => page.as.user).sort();
  if (JSON.stringify(Object.keys(seen).sort()) !== JSON.stringify(names)) return `tiles of ${Object.keys(seen)}, not of ${names}`;
  for (const { as: { user, colour, tone } } of expected) {
    if (!isColour(seen[user].colour, colour)) return `${user} shows ${seen[user].colour}, not ${rgb(colour)}: ${JSON.stringify(seen[user].state)}`;
    if (!isTone(seen[user].tone, tone)) return `${user} sounds ${seen[user].tone} Hz, not ${tone}`;
  }
  return null;
}

/** Content right and, in each of `windows` windows of 2 s, frames decoded and sound received for every ordered pair. */
export async function expectCall(pages, { windows = 2, ms = SOON_MS } = {}) {
  await untilContent(pages, ms);
  await expectFlow(pages, windows);
}

/** No picture and no sound may stand still for longer than this, however busy the machine, but for what is announced as paused. */
const GAP_MS_MAX = 8_000;
const WINDOW_MS = 2_000;
const STEP_MS = 300;

/** In each window of 2 s frames and sound grow for every ordered pair, as `expectGrowth` means it. */
export async function expectFlow(pages, windows = 2) {
  const look = () => Promise.all(pages.map((page) => page.evaluate(() => window.probe.flow())));
  const pairs = pages.flatMap((page, at) => others(pages, page).map(({ as: { user } }) => (
    { user, at, name: `${user} → ${page.as.user} (${page.browserName})` })));
  await expectGrowth(pairs, look, windows);
}

/**
 * In each window of 2 s frames and sound grow for every pair of a `user` and the page `at` this place of what `look` gives.
 * Browsers that share two cores may miss windows, and a server that hears of arrivals late may pause a picture: so a pair may
 * stand still for `GAP_MS_MAX`, a picture for as long as its viewer was told that it is paused; but in the end each pair flows
 * again.
 */
export async function expectGrowth(pairs, look, windows) {
  const first = await look();
  const began = Date.now();
  for (const pair of pairs) {
    const { frames, energy } = first[pair.at][pair.user] ?? {};
    Object.assign(pair, { frames: [frames, began], energy: [energy, began] });
  }
  let due = pairs;
  for (let window = 1; window <= windows || due.length; window++) {
    // What has grown does not shrink again: the last window need not be waited for to its end.
    const still = await watch(pairs, look, window < windows ? WINDOW_MS : STEP_MS);
    // Asked for are so many windows, and that no pair stood still from beginning to end.
    due = due.filter((pair) => still.includes(pair));
    const passed = Date.now() - began;
    assert.ok(passed <= windows * WINDOW_MS + SOON_MS, `${due.map((pair) => pair.name)} did not flow again within ${passed} ms`);
  }
}

/** Looks each `stepMs` until all pairs have flowed or a window is over, and gives those that have not. */
async function watch(pairs, look, stepMs) {
  const end = Date.now() + WINDOW_MS;
  const flowed = new Map(pairs.map((pair) => [pair, new Set()]));
  const still = () => pairs.filter((pair) => flowed.get(pair).size < 2);
  while (Date.now() < end && still().length) {
    await pass(stepMs);
    const seen = await look();
    const now = Date.now();
    for (const pair of pairs) {
      const is = seen[pair.at][pair.user];
      for (const what of ['frames', 'energy']) {
        const [was, since] = pair[what];
        const grew = is?.[what] > (was ?? 0);
        const announced = what === 'frames' && is?.paused === true;
        assert.ok(grew || announced || now - since <= GAP_MS_MAX, `${pair.name}: ${what} ${was} → ${is?.[what]} for ${now - since} ms, and no word of a pause`);
        if (grew || announced) pair[what] = [is[what], now];
        if (grew) flowed.get(pair).add(what);
      }
    }
  }
  return still();
}
