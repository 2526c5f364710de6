// Who may enter and what they may do there: real browsers with the join tokens that a Supabase project's users get.

import assert from 'node:assert/strict';
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, pass, reload, until } from './rig.mjs';
import { PEOPLE, expectCall, expectFlow, isColour, untilContent } from './expect.mjs';
import { joinPage, press, tileOf, untilMoving, untilWords } from './product.mjs';

const firefox = BROWSERS.includes('firefox') ? 'firefox' : 'chromium';
/** How long nothing must come of somebody who is not to be seen. */
const UNSEEN_MS = 6_000;

const KID = randomUUID();
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Publishes the project's key set, as Supabase does. */
async function serveKeys() {
  let asked = 0;
  const keys = [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', key_ops: ['verify'], kid: KID, ext: true }];
  const server = createServer((request, response) => {
    if (request.url !== '/auth/v1/.well-known/jwks.json') return response.writeHead(404).end();
    asked += 1;
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${server.address().port}`, asked: () => asked, stop: () => server.close() };
}

let keys;
let rig;
before(async () => {
  keys = await serveKeys();
  rig = await openRig('identity', {
    SUPABASE_URL: keys.url,
    JWT_SECRET: randomUUID() + randomUUID(),
    LYCEUM__AUTH__ANY_USER_MAY_JOIN: 'true',
    LYCEUM__AUTH__ROLE_CLAIM: 'lyceum_role',
  });
}, { timeout: 600_000 });
after(async () => {
  await rig?.close();
  keys?.stop();
}, { timeout: 120_000 });

/** The access token of a signed-in user, as Supabase mints it; `app` is what the school says of the user. */
function userToken(user, { app = {}, ...other } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: `${keys.url}/auth/v1`, sub: user, aud: 'authenticated', exp: now + 3600, iat: now, email: `${user}@school.example`,
    phone: '', app_metadata: { provider: 'email', providers: ['email'], ...app }, user_metadata: { lyceum_role: 'instructor' },
    role: 'authenticated', aal: 'aal1', session_id: randomUUID(), is_anonymous: false, ...other,
  };
  const signed = `${base64url({ alg: 'ES256', kid: KID, typ: 'JWT' })}.${base64url(claims)}`;
  return `${signed}.${sign('SHA256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

async function ask(token, sessionId, role) {
  const response = await fetch(`${rig.lyceum.url}/v1/video/token`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ sessionId, ...(role && { role }) }),
  });
  return { status: response.status, ...(await response.json()) };
}

/** A join token of somebody, granted. */
async function joinToken(user, session, role, app) {
  const granted = await ask(userToken(user, { app }), session, role);
  assert.equal(granted.status, 200, JSON.stringify(granted));
  assert.deepEqual([granted.sessionId, granted.userId], [session, user]);
  return granted;
}

/** Opens a page that joins with a join token of its own. */
async function join(t, browserName, session, person, { role, app, ...extra } = {}) {
  const granted = await joinToken(person.user, session, role, app);
  const page = await rig.plain(t, browserName, session, { ...person, token: granted.token, ...extra });
  return Object.assign(page, { granted });
}

/** Whether a page is given a relayed address by these TURN servers. */
const isRelayed = (page, iceServers) => page.evaluate(async (servers) => {
  const peer = new RTCPeerConnection({ iceServers: servers, iceTransportPolicy: 'relay' });
  peer.createDataChannel('any');
  const found = new Promise((done) => { peer.onicecandidate = ({ candidate }) => (!candidate || / typ relay /.test(candidate.candidate)) && done(candidate !== null); });
  await peer.setLocalDescription();
  const is = await found;
  peer.close();
  return is;
}, iceServers);

const refusals = (page) => page.evaluate(() => window.refusals);
const untilRefused = (page, code) => until(async () => (await refusals(page)).includes(code), SOON_MS, `${page.as.user} is told ${code}`);
const present = (page) => page.evaluate(() => (window.roster ?? []).map((one) => one.userId).sort());
const participantOf = (page, user) => page.evaluate((who) => window.roster.find((one) => one.userId === who)?.participantId, user);
const moderate = (page, order) => page.evaluate((body) => socket.timeout(30_000).emitWithAck('moderate', body), order);
const toneOf = (page, user) => page.evaluate(async (who) => (await window.probe.content())[who]?.tone, user);
async function dropped() {
  const metrics = await (await fetch(`${rig.lyceum.admin}/metrics`)).text();
  return Number(metrics.match(/^\S*drop\S*reason="not_permitted"\S* (\d+)/m)?.[1]);
}
const scenario = (name, run) => test(name, { timeout: 600_000 }, run);

scenario('users of a Supabase project meet, and nobody else gets in', async (t) => {
  const session = 'lesson';
  const pages = await Promise.all([
    join(t, 'chromium', session, PEOPLE[0], { app: { lyceum_role: 'instructor' } }),
    join(t, firefox, session, PEOPLE[1]),
  ]);
  await expectCall(pages, { windows: 1 });
  assert.ok(keys.asked() > 0);
  assert.deepEqual(await present(pages[0]), ['ada', 'bob']);

  const stranger = await rig.plain(t, 'chromium', session, PEOPLE[2]);
  await untilRefused(stranger, 'auth/missing');
  const { token } = await joinToken('cleo', 'another lesson');
  const guest = await rig.plain(t, firefox, session, { ...PEOPLE[2], token });
  await untilRefused(guest, 'session/forbidden');
  const forged = await rig.plain(t, 'chromium', session, { ...PEOPLE[2], token: userToken('cleo') });
  await untilRefused(forged, 'auth/invalid');
  assert.deepEqual(await present(pages[1]), ['ada', 'bob']);

  // What users can write about themselves gives them nothing, and the project's public key is nobody.
  const granted = await joinToken('bob', session);
  assert.deepEqual([granted.role, granted.permissions.moderate], ['participant', false]);
  assert.equal((await ask(userToken('bob'), session, 'instructor')).role, 'participant');
  assert.equal((await ask(userToken(undefined, { role: 'anon' }), session)).status, 401);
  assert.equal((await ask(userToken('bob', { aud: 'others' }), session)).status, 401);
  assert.equal((await ask(userToken('bob', { exp: 1_700_000_000 }), session)).status, 401);
  assert.equal((await moderate(pages[1], { action: 'mute-all' })).ok, false);
  await expectFlow(pages, 1);
});

scenario('who may not publish sends nothing to others, whatever its browser does', async (t) => {
  for (const [name, other] of [['chromium', firefox], [firefox, 'chromium']]) {
    const session = `observed by ${name}`;
    const speakers = await Promise.all([join(t, 'chromium', session, PEOPLE[0]), join(t, other, session, PEOPLE[1])]);
    const before = await dropped();
    const observer = await join(t, name, session, PEOPLE[2], { role: 'observer', defiant: '1' });
    await untilRefused(observer, 'media/not_permitted');
    await until(async () => (await dropped()) > before, SOON_MS, `the server drops what ${name} sends`);
    await pass(UNSEEN_MS);
    for (const page of speakers) {
      assert.deepEqual(await present(page), ['ada', 'bob', 'cleo']);
      assert.deepEqual(await page.evaluate(() => window.roster.find((one) => one.userId === 'cleo').tracks), []);
      assert.deepEqual(Object.keys(await page.evaluate(() => window.probe.flow())).length, 1, 'the other speaker alone has a tile');
    }
    observer.as.recv = true;
    await expectCall([...speakers, observer], { windows: 1 });
  }
});

scenario('who is promoted is seen with what it offered before, and who is demoted is gone', async (t) => {
  for (const [name, other] of [['chromium', firefox], [firefox, 'chromium']]) {
    const session = `promoted in ${name}`;
    const teacher = await join(t, other, session, PEOPLE[0], { app: { lyceum_role: 'instructor' } });
    const pupil = await join(t, name, session, PEOPLE[1], { role: 'observer' });
    await untilRefused(pupil, 'media/not_permitted');
    const participantId = await until(() => participantOf(teacher, 'bob'), SOON_MS, 'the roster names the pupil');
    for (let round = 0; round < 2; round++) {
      assert.equal((await moderate(teacher, { action: 'promote', participantId, role: 'participant' })).ok, true);
      await expectCall([teacher, pupil], { windows: 1 });
      assert.equal((await moderate(teacher, { action: 'promote', participantId, role: 'observer' })).ok, true);
      await until(() => teacher.evaluate(() => window.roster.find((one) => one.userId === 'bob').tracks.length === 0), SOON_MS, 'the pupil\'s tracks go');
      // A browser may keep what has ended in its stream.
      await until(() => teacher.evaluate(() => [...document.querySelectorAll('video')]
        .every((video) => video.srcObject.getTracks().every((track) => track.readyState === 'ended'))), SOON_MS, 'for the page, too');
      pupil.as.recv = true;
      await expectFlow([teacher, pupil], 1);
      pupil.as.recv = undefined;
    }
  }
});

scenario('an instructor mutes somebody, who alone can be heard again', async (t) => {
  const session = 'quiet';
  const teacher = await join(t, 'chromium', session, PEOPLE[0], { app: { lyceum_role: 'instructor' } });
  const pupils = await Promise.all([join(t, firefox, session, PEOPLE[1]), join(t, 'chromium', session, PEOPLE[2])]);
  const pages = [teacher, ...pupils];
  await untilContent(pages);
  for (const pupil of pupils) {
    const { user, colour, tone } = pupil.as;
    const others = pages.filter((page) => page !== pupil);
    const participantId = await participantOf(teacher, user);
    assert.equal((await moderate(teacher, { action: 'mute', participantId, source: 'microphone' })).ok, true);
    await until(() => pupil.evaluate(() => window.moderated?.some((one) => one.action === 'mute')), SOON_MS, `${user} is told`);
    for (const page of others) {
      await until(async () => (await toneOf(page, user)) === null, SOON_MS, `${page.as.user} hears nothing of ${user}`);
      await until(() => page.evaluate((who) => window.roster.find((one) => one.userId === who).tracks
        .every((one) => one.muted === (one.source === 'microphone')), user), SOON_MS, 'the roster says so');
      assert.ok(isColour(await page.evaluate(async (who) => (await window.probe.content())[who].colour, user), colour));
    }
    await pass(UNSEEN_MS);
    for (const page of others) assert.equal(await toneOf(page, user), null);
    // Nobody else can undo it, not even who did it.
    const microphone = await teacher.evaluate((who) => window.roster.find((one) => one.userId === who).tracks.find((one) => one.source === 'microphone').trackId, user);
    assert.equal((await teacher.evaluate((trackId) => socket.timeout(30_000).emitWithAck('track-update', { trackId, muted: false }), microphone)).ok, false);
    assert.equal((await pupil.evaluate((trackId) => socket.timeout(30_000).emitWithAck('track-update', { trackId, muted: false }), microphone)).ok, true);
    for (const page of others) {
      await until(async () => Math.abs((await toneOf(page, user)) - tone) <= 12, SOON_MS, `${page.as.user} hears ${user} again`);
    }
  }
  await expectCall(pages, { windows: 1 });
});

scenario('who was removed stays out: by a reload, by new tokens, and over a restart of the server', async (t) => {
  const session = 'removed';
  const teacher = await join(t, 'chromium', session, PEOPLE[0], { app: { lyceum_role: 'instructor' } });
  const pupils = await Promise.all([join(t, firefox, session, PEOPLE[1]), join(t, 'chromium', session, PEOPLE[2])]);
  const stays = await join(t, firefox, session, PEOPLE[3]);
  await untilContent([teacher, ...pupils, stays]);
  for (const pupil of pupils) {
    const { user } = pupil.as;
    const participantId = await participantOf(teacher, user);
    assert.equal(await isRelayed(pupil, pupil.granted.iceServers), true, 'the servers that came with the token relay');
    assert.equal((await moderate(teacher, { action: 'remove', participantId })).ok, true);
    await untilRefused(pupil, 'auth/revoked');
    for (const page of [teacher, stays]) {
      await until(async () => !(await present(page)).includes(user), SOON_MS, `${user} is gone from the roster`);
      await until(() => page.evaluate((id) => !document.getElementById(id), participantId), SOON_MS, 'and from the page');
    }
    await reload(pupil);
    await untilRefused(pupil, 'auth/revoked');
    assert.equal(await isRelayed(pupil, pupil.granted.iceServers), false, 'they relay no more');
  }
  const isOut = async () => {
    for (const pupil of pupils) {
      const granted = await ask(userToken(pupil.as.user), session);
      if (granted.status === 200) {
        const again = await rig.plain(t, pupil.browserName, session, { ...pupil.as, token: granted.token });
        await untilRefused(again, 'auth/revoked');
      } else {
        assert.equal(granted.code, 'auth/revoked');
      }
      await reload(pupil);
      await untilRefused(pupil, 'auth/revoked');
    }
    assert.deepEqual(await present(teacher), ['ada', 'dan']);
  };
  await isOut();
  await expectFlow([teacher, stays], 1);
  await rig.lyceum.end('SIGKILL');
  for (const page of [teacher, stays]) await page.evaluate(() => { window.roster = []; });
  await rig.lyceum.start();
  for (const page of [teacher, stays]) {
    await until(async () => JSON.stringify(await present(page)) === '["ada","dan"]', SOON_MS, 'those who were there are there again');
  }
  await isOut();
  await expectCall([teacher, stays], { windows: 1, ms: 2 * SOON_MS });
});

scenario('the call page takes its token from the address, and shows what an instructor does', async (t) => {
  const session = 'invited';
  const stranger = await rig.open(t, 'chromium', `${rig.lyceum.url}/?session=${session}&name=eve`);
  await press(stranger, 'join');
  await untilWords(stranger, '.ended', /needs an invitation/);
  const teacher = await join(t, 'chromium', session, PEOPLE[0], { app: { lyceum_role: 'instructor' } });
  for (const browserName of BROWSERS) {
    const name = `${browserName}-pupil`;
    const { token } = await joinToken(`u-${name}`, session);
    const pupil = await joinPage(rig, t, browserName, session, name, { token });
    assert.doesNotMatch(await pupil.evaluate(() => location.href + JSON.stringify([localStorage, history.state])), /eyJ/, 'the token is kept for this tab alone');
    await untilMoving(pupil, name);
    const participantId = await until(() => participantOf(teacher, `u-${name}`), SOON_MS, 'the roster names the pupil');
    const isMuted = (muted) => until(() => teacher.evaluate((who, is) => window.roster.find((one) => one.userId === who)?.tracks
      .find((one) => one.source === 'microphone')?.muted === is, `u-${name}`, muted), SOON_MS, `the roster says muted: ${muted}`);
    const order = async (body) => assert.equal((await moderate(teacher, { participantId, ...body })).ok, true);
    const shows = (action, is) => until(async () => ((await pupil.$(`[data-action="${action}"]`)) !== null) === is, SOON_MS, `${action}: ${is}`);
    await isMuted(false);
    await order({ action: 'mute', source: 'microphone' });
    await untilWords(pupil, '.notice', / muted you/);
    await until(() => pupil.$(`${tileOf(name)}[data-muted="true"]`), SOON_MS, 'the own tile says so');
    await isMuted(true);
    await order({ action: 'ask-unmute', source: 'microphone' });
    await untilWords(pupil, '.notice', /asks you to turn your microphone on/);
    await isMuted(true);
    await pupil.evaluate(() => document.querySelector('.notice button').click());
    await isMuted(false);
    await order({ action: 'promote', role: 'observer' });
    for (const action of ['mic', 'camera', 'hand', 'chat']) await shows(action, false);
    await order({ action: 'promote', role: 'participant' });
    for (const action of ['mic', 'camera', 'hand', 'chat']) await shows(action, true);
    await press(pupil, 'camera');
    await untilMoving(pupil, name);
    await order({ action: 'remove' });
    await untilWords(pupil, '.ended', /removed from this call/);
    await press(pupil, 'join');
    await untilWords(pupil, '.ended', /removed from this call/);
  }
});
