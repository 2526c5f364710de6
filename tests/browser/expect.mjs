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

/** True if `seen` is `hex` within what limited-range chroma-subsampled video and the moving bar may change. */
export function isColour(seen, hex) {
  return Array.isArray(seen) && rgb(hex).every((value, at) => Math.abs(value - seen[at]) <= 44);
}

const isTone = (seen, tone) => seen !== null && Math.abs(seen - tone) <= 12;

const others = (pages, page) => pages.filter((other) => other !== page && !other.as.recv);

/** Waits until each page shows a tile for exactly the others, each with their own colour and tone. */
export async function untilContent(pages, ms = SOON_MS) {
  await Promise.all(pages.map(async (page) => {
    let wrong;
    await until(async () => {
      const seen = await page.evaluate(() => window.probe.content());
      wrong = contentFault(seen, others(pages, page));
      return wrong === null;
    }, ms, () => `${page.as.user} (${page.browserName}) sees and hears everyone as themselves; ${wrong}`);
  }));
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

/** Frames and sound grow in each window, for every ordered pair. */
export async function expectFlow(pages, windows = 2) {
  const look = () => Promise.all(pages.map((page) => page.evaluate(() => window.probe.flow())));
  let before = await look();
  for (let window = 1; window <= windows; window++) {
    await pass(2_000);
    const after = await look();
    pages.forEach((page, at) => {
      for (const { as: { user } } of others(pages, page)) {
        const pair = `${user} → ${page.as.user} (${page.browserName}), window ${window}`;
        const [was, is] = [before[at][user], after[at][user]];
        assert.ok(is?.frames > was?.frames, `${pair}: frames ${was?.frames} → ${is?.frames}`);
        assert.ok(is?.energy > was?.energy, `${pair}: audio energy ${was?.energy} → ${is?.energy}`);
      }
    });
    before = after;
  }
}
