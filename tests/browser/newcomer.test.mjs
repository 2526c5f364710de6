// The way of somebody who has never seen Lyceum, with the pages of the binary: as the README starts it, then with a certificate, then
// with Postgres, then through an upgrade while a call runs.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SOON_MS, openRig, until } from './rig.mjs';
import { expectPageFlow, joinPage, untilAllMove, untilNames } from './product.mjs';
import { openPostgres } from './postgres.mjs';
import { openTrust } from './trust.mjs';

/** In `hosts`, where it stands for a domain. */
const NAME = 'lyceum.test';
const HTTPS_PORT = 8443;
/** How long an upgrade waits for calls to end. */
const DRAIN_S = 2;

/** What the newcomer has set so far: nothing. */
const settings = {};
let trust;
let rig;
let postgres;
before(async () => {
  trust = openTrust(NAME);
  rig = await openRig('newcomer', settings, { trust });
}, { timeout: 300_000 });
after(async () => {
  await rig?.close();
  await postgres?.stop();
  trust?.close();
}, { timeout: 120_000 });

const scenario = (name, fn) => test(name, { timeout: 300_000 }, fn);
const both = (t, session, url) => Promise.all(['Ada', 'Bob'].map((name) => joinPage(rig, t, 'chromium', session, name, { url })));

async function restart(more) {
  await rig.lyceum.end('SIGTERM');
  Object.assign(settings, more);
  await rig.lyceum.start();
}

scenario('what the README starts holds a call', async (t) => {
  const page = await (await fetch(rig.lyceum.url)).text();
  assert.match(page, /Signaling server running/);
  await expectPageFlow(await both(t, 'first'), 1);
});

scenario('with a certificate for its domain it holds one over HTTPS', async (t) => {
  await restart({ ...trust.settings, LYCEUM__TLS__LISTEN: `0.0.0.0:${HTTPS_PORT}`, NEXTAUTH_URL: `https://${NAME}:${HTTPS_PORT}` });
  const pages = await both(t, 'secure', `https://${NAME}:${HTTPS_PORT}`);
  assert.ok(await pages[0].evaluate(() => isSecureContext), 'or there would be no camera');
  await expectPageFlow(pages, 1);
});

scenario('with Postgres attendance is there, and an upgrade during a call ends nobody\'s visit', async (t) => {
  postgres = await openPostgres();
  await restart({ DATABASE_URL: postgres.url, LYCEUM__ADMIN__DRAIN_S: `${DRAIN_S}` });
  const session = 'lesson';
  const pages = await both(t, session);
  await expectPageFlow(pages, 1);
  const here = (what) => until(() => {
    const rows = postgres.query(`SELECT user_id, meeting_id FROM connections c JOIN meetings m USING (meeting_id)
      WHERE session_id = '${session}' AND c.ended_at IS NULL ORDER BY user_id`);
    return rows.map(([user]) => user).join() === 'u-Ada,u-Bob' && rows[0][1];
  }, SOON_MS, what);
  const meeting = await here('both are written down in Postgres');

  await rig.lyceum.end('SIGTERM');
  const ended = Date.now();
  await rig.lyceum.start();
  const ready = Date.now();
  await untilNames(pages[0], ['Ada (you)', 'Bob']);
  await untilAllMove(pages);
  t.diagnostic(`media gap of the upgrade: ${Date.now() - ended} ms, of which ${ready - ended} ms were the start of the server`);
  assert.equal(await here('both are there again'), meeting, 'the meeting goes on');

  const answer = await fetch(`${rig.lyceum.url}/v1/sessions/${session}/end`, { method: 'POST' });
  assert.equal(answer.status, 200, await answer.text());
  const visits = await until(() => {
    const rows = postgres.query(`SELECT user_id, number, reason, gaps_ms FROM visits WHERE meeting_id = '${meeting}' ORDER BY user_id, number`);
    return rows.length > 0 && rows;
  }, SOON_MS, 'the summary is in Postgres');
  assert.deepEqual(visits.map((row) => row.slice(0, 3).join(' ')), ['u-Ada 1 ended', 'u-Bob 1 ended'], 'one visit each');
  for (const [user, , , gap] of visits) {
    assert.ok(Number(gap) > 0, `the gap of ${user} is in the record`);
    t.diagnostic(`${user} was away for ${gap} ms of one visit`);
  }
});
