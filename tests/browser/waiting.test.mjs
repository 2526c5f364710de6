// The call page in a session with a waiting room, behind join tokens that end soon.

import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { SOON_MS, openRig, until } from './rig.mjs';
import { clean, joinPage, press, untilNames, untilWords } from './product.mjs';

const SECRET = randomUUID() + randomUUID();
const SESSION = 'seminar';

let rig;
before(async () => { rig = await openRig('waiting', { JWT_SECRET: SECRET, LYCEUM__ROOM__WAITING_ROOM: 'true' }); }, { timeout: 600_000 });
after(() => rig?.close(), { timeout: 120_000 });

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A join token as the application signs it. */
function joinToken(sub, claims, seconds) {
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ aud: 'lyceum', sub, sessionId: SESSION, exp, ...claims })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** An instructor without media: `waiting` is who waits, as it was told last. */
async function teach(t) {
  const socket = io(rig.lyceum.url, { transports: ['websocket'], auth: { token: joinToken('ada', { role: 'instructor' }, 3_600) } });
  t.after(() => socket.close());
  const teacher = { waiting: [], ask: (event, body) => socket.timeout(SOON_MS).emitWithAck(event, body) };
  socket.on('waiting', ({ participants }) => { teacher.waiting = participants; });
  assert.equal((await teacher.ask('join-session', { sessionId: SESSION, userId: 'ada', media: 'sfu' })).ok, true);
  return teacher;
}

/** Notes each token with which this page's sockets connect, and the last that the server sent. */
function noteTokens() {
  window.tokens = [];
  const send = WebSocket.prototype.send;
  window.WebSocket = class extends WebSocket {
    constructor(...all) {
      super(...all);
      this.addEventListener('message', ({ data }) => {
        if (String(data).startsWith('42["token"')) window.renewed = JSON.parse(data.slice(2))[1].token;
      });
    }
  };
  WebSocket.prototype.send = function note(data) {
    if (typeof data === 'string' && data.startsWith('40')) window.tokens.push(JSON.parse(data.slice(2)).token);
    return send.call(this, data);
  };
}

test('who waits is told so until somebody decides, and connects again with the renewed token', { timeout: 600_000 }, async (t) => {
  const teacher = await teach(t);
  const line = await rig.line();
  t.after(() => line.close());
  const token = joinToken('bob', { name: 'Bob Ross' }, 60); // renewed when half of its time is over
  const pupil = await rig.open(t, 'chromium', `${line.url}/#token=${token}`, { before: noteTokens });
  const waits = async () => {
    await untilWords(pupil, '.overlay', /The instructor will let you in/);
    await until(() => teacher.waiting.length === 1, SOON_MS, 'the instructor is told who waits');
    assert.equal(teacher.waiting[0].userName, 'Bob Ross');
  };

  await press(pupil, 'join');
  await waits();
  assert.equal((await teacher.ask('moderate', { action: 'remove', participantId: teacher.waiting[0].waitingId })).ok, true);
  await untilWords(pupil, '.ended', /not let into this call/);
  await until(() => teacher.waiting.length === 0, SOON_MS, 'nobody waits');

  await press(pupil, 'join');
  await waits();
  line.cut();
  await untilWords(pupil, '.overlay', /cannot be reached/);
  line.mend();
  await waits();
  assert.equal((await teacher.ask('moderate', { action: 'admit' })).ok, true);
  await until(() => pupil.$('.tile[data-user="bob"]'), SOON_MS, 'the pupil is in');
  await until(() => pupil.evaluate(() => !document.querySelector('.overlay')), SOON_MS, 'and waits no more');

  const connections = () => pupil.evaluate(() => window.tokens);
  assert.deepEqual([...new Set(await connections())], [token]);
  const renewed = await until(() => pupil.evaluate(() => window.renewed), SOON_MS, 'a renewed token');
  line.cut();
  await untilWords(pupil, '.overlay', /Reconnecting|cannot be reached/);
  line.mend();
  await until(async () => (await connections()).at(-1) === renewed, SOON_MS, 'the next connection is made with it');
  await until(() => pupil.evaluate(() => !document.querySelector('.overlay')), SOON_MS, 'the seat is the same');

  assert.equal((await teacher.ask('moderate', { action: 'end' })).ok, true);
  await untilWords(pupil, '.ended', /This call has ended/);
});

test('an instructor on the page sees who waits, lets one in and turns one away', { timeout: 600_000 }, async (t) => {
  const ada = await joinPage(rig, t, 'chromium', SESSION, 'Ada', { token: joinToken('u-Ada', { name: 'Ada', role: 'instructor' }, 3_600) });
  const come = async (name) => {
    const page = await rig.open(t, 'chromium', `${rig.lyceum.url}/#token=${joinToken(`u-${name}`, { name }, 3_600)}`);
    page.as = { name };
    await press(page, 'join');
    await untilWords(page, '.overlay', /The instructor will let you in/);
    return page;
  };
  const bob = await come('Bob');
  await untilWords(ada, '.notice', /Bob waits to be let in/);
  await ada.$eval('.notice button', (button) => button.click());
  await untilNames(ada, ['Ada (you)', 'Bob']);
  await untilNames(bob, ['Ada', 'Bob (you)']);
  const [cleo, dan] = [await come('Cleo'), await come('Dan')];
  await press(ada, 'people');
  await until(() => ada.$$eval('[data-waiting]', (all) => all.length === 2), SOON_MS, 'two wait');
  await clean(ada, 'people who wait');
  await ada.$eval('[data-waiting="u-Cleo"] [data-action="deny"]', (button) => button.click());
  await untilWords(cleo, '.ended', /not let into this call/);
  await ada.$eval('[data-waiting="u-Dan"] [data-action="admit"]', (button) => button.click());
  await untilNames(dan, ['Ada', 'Bob', 'Dan (you)']);
  await until(async () => !(await ada.$('[data-waiting]')), SOON_MS, 'nobody waits');
});
