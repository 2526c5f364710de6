// Calls of plain pages through the SFU: everyone must see and hear everyone else, as themselves.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BROWSERS, SOON_MS, openRig, until, reload } from './rig.mjs';
import { PEOPLE, SPARE, expectCall, expectFlow, isColour, untilContent } from './expect.mjs';

let rig;
before(async () => { rig = await openRig('plain'); }, { timeout: 600_000 });
after(() => rig?.close(), { timeout: 120_000 });

const firefox = BROWSERS.includes('firefox') ? 'firefox' : 'chromium';
let sessions = 0;
const newSession = (what) => `${what}-${++sessions}`;

/** Opens one page per browser name given, as the first people of PEOPLE, all at once. */
function call(t, session, browserNames, extra = {}) {
  return Promise.all(browserNames.map((name, at) => rig.plain(t, name, session, { ...PEOPLE[at], ...extra })));
}
const tiles = (page) => page.evaluate(() => Object.keys(names).length && document.querySelectorAll('video').length);
const scenario = (name, ...rest) => test(name, { timeout: 600_000, ...(rest.length > 1 ? rest[0] : {}) }, rest.at(-1));

scenario('two Chromium pages', async (t) => {
  await expectCall(await call(t, newSession('two'), ['chromium', 'chromium']), { windows: 3 });
});

scenario('two Firefox pages', { skip: firefox === 'chromium' }, async (t) => {
  await expectCall(await call(t, newSession('foxes'), ['firefox', 'firefox']), { windows: 3 });
});

scenario('three, late join, leave, reload, in both browsers', async (t) => {
  const session = newSession('mixed');
  const [ada, bob] = await call(t, session, ['chromium', firefox]);
  await untilContent([ada, bob]);

  await t.test('someone who joins late is seen and sees all', async (t) => {
    const started = Date.now();
    const cleo = await rig.plain(t, 'chromium', session, PEOPLE[2]);
    await until(async () => (await tiles(cleo)) === 2 && (await tiles(ada)) === 2, SOON_MS, 'three tiles each');
    await untilContent([ada, bob, cleo]);
    t.diagnostic(`late join: everyone seen and heard after ${Date.now() - started} ms, opening the page included`);
    await expectFlow([ada, bob, cleo], 2);

    await t.test('a reload joins again', async () => {
      await reload(cleo);
      await expectCall([ada, bob, cleo], { windows: 1 });
    });
    await t.test('a Firefox reload joins again', async () => {
      await reload(bob);
      await expectCall([ada, bob, cleo], { windows: 1 });
    });
    await t.test('one who leaves is gone from the others', async () => {
      await cleo.evaluate((sessionId) => socket.emitWithAck('leave-session', { sessionId }), session);
      await until(async () => (await tiles(ada)) === 1 && (await tiles(bob)) === 1, SOON_MS, 'the tile goes');
      await expectCall([ada, bob], { windows: 1 });
    });
  });
});

scenario('leaves and rejoins in a row, so that m-lines are recycled', async (t) => {
  const session = newSession('recycle');
  const [ada, bob] = await call(t, session, ['chromium', firefox]);
  let guest;
  for (const [at, person] of [PEOPLE[2], PEOPLE[3], PEOPLE[4], PEOPLE[5]].entries()) {
    const context = guest?.browserContext();
    // The first goes without a word, and is gone when its grace time is over.
    if (at > 1) await guest.evaluate((sessionId) => socket.emitWithAck('leave-session', { sessionId }), session);
    [guest] = await Promise.all([rig.plain(t, 'chromium', session, person), context?.close()]);
    await untilContent([ada, bob, guest], 120_000);
  }
  await expectFlow([ada, bob, guest], 1);
  const lines = await ada.evaluate(() => pc.remoteDescription.sdp.match(/^m=/gm).length);
  assert.ok(lines <= 10, `m-lines are reused: ${lines} after four guests`);
});

scenario('a screen share added later', async (t) => {
  const session = newSession('screen');
  const pages = await call(t, session, ['chromium', firefox]);
  await untilContent(pages);
  for (const [at, colour] of [[0, SPARE.orange], [1, SPARE.violet]]) {
    const [from, to] = [pages[at], pages[1 - at]];
    await from.evaluate((c) => { window.shared = share(c); }, colour);
    await until(async () => {
      const seen = await to.evaluate((user) => window.probe.screens(user), from.as.user);
      return seen.some((one) => isColour(one, colour)) && seen.some((one) => isColour(one, from.as.colour));
    }, SOON_MS, `${to.browserName} sees camera and screen of ${from.browserName}`);
    await until(() => to.evaluate(
      (user) => window.roster.find((p) => p.userId === user).tracks.some((track) => track.source === 'screen'),
      from.as.user,
    ), SOON_MS, 'the roster says that it is a screen');
  }
  await expectCall(pages, { windows: 1 });
  await pages[0].evaluate(() => pc.removeTrack(window.shared));
  await until(() => pages[1].evaluate(() => window.probe.screens('ada').then((seen) => seen.length === 1)), SOON_MS, 'the screen goes');
  await expectCall(pages, { windows: 1 });
});

scenario('a receive-only page', async (t) => {
  const session = newSession('audience');
  const listener = await rig.plain(t, 'chromium', session, { user: 'lurker', recv: '1' });
  const speakers = await call(t, session, ['chromium', firefox]);
  await expectCall([...speakers, listener], { windows: 1 });
});

scenario('a socket cut for some seconds', async (t) => {
  const pages = await call(t, newSession('cut'), ['chromium', firefox]);
  await untilContent(pages);
  for (const page of pages) {
    const before = await page.evaluate(() => {
      socket.io.reconnection(false); // until the test says so
      const { participantId } = window;
      window.participantId = null;
      window.pcBefore = pc;
      socket.io.engine.close();
      return participantId;
    });
    const other = pages.find((one) => one !== page);
    const untilState = (state) => until(
      async () => (await other.evaluate((user) => window.roster.find((p) => p.userId === user)?.state, page.as.user)) === state,
      SOON_MS, `the roster says ${state}`,
    );
    await untilState('reconnecting');
    await expectFlow(pages, 2); // media never stops while the socket is away
    assert.equal(await page.evaluate(() => window.participantId), null, 'the socket is still away');
    await page.evaluate(() => {
      socket.io.reconnection(true);
      socket.connect();
    });
    await until(() => page.evaluate(() => window.participantId), SOON_MS, 'joined again');
    assert.deepEqual(
      await page.evaluate(() => [window.participantId, window.resumed, window.pcBefore === pc]),
      [before, true, true],
      'the same seat and the same RTCPeerConnection',
    );
    await expectCall(pages, { windows: 1 });
    await untilState('connected');
  }
});

/** Loses the next event `name` in the direction given, then cuts the socket, as a network would. */
function loseOne(direction, name) {
  window.lost = false;
  const method = direction === 'in' ? 'onevent' : 'emit';
  const whole = socket[method];
  socket[method] = function lossy(...args) {
    const event = direction === 'in' ? args[0].data[0] : args[0];
    if (window.lost || event !== name) return whole.apply(this, args);
    window.lost = true;
    socket.io.engine.close();
    return direction === 'in' ? undefined : this;
  };
}

scenario('a lost answer, of the server and of the client', async (t) => {
  for (const direction of ['in', 'out']) {
    const session = newSession(`lost-${direction}`);
    const pages = await call(t, session, ['chromium', firefox]);
    await untilContent(pages);
    await pages[0].evaluate(loseOne, direction, 'answer');
    // The server's answer is lost when this page offers; this page's answer is lost when another's track is offered.
    const sharing = pages[direction === 'in' ? 0 : 1];
    const watching = pages[direction === 'in' ? 1 : 0];
    await sharing.evaluate((colour) => { share(colour); }, SPARE.orange);
    await until(() => pages[0].evaluate(() => window.lost), SOON_MS, 'an answer is lost');
    await until(async () => {
      const seen = await watching.evaluate((user) => window.probe.screens(user), sharing.as.user);
      return seen.some((one) => isColour(one, SPARE.orange));
    }, SOON_MS, 'the screen comes all the same');
    await expectCall(pages, { windows: 1 });
    await Promise.all(pages.map((page) => page.browserContext().close()));
  }
});

scenario('both sides offer at once', async (t) => {
  const session = newSession('glare');
  const [ada, bob] = await call(t, session, ['chromium', firefox]);
  await untilContent([ada, bob]);
  // When another's arrival makes the server offer, each page adds a track at that very moment.
  for (const [page, colour] of [[ada, SPARE.orange], [bob, SPARE.violet]]) {
    await page.evaluate((c) => socket.once('user-joined', () => share(c)), colour);
    await page.evaluate((c) => {
      window.glare = 0;
      socket.on('offer', () => { if (pc.signalingState === 'have-local-offer') window.glare++; });
      for (let more = 0; more < 2; more++) socket.once('offer', () => share(c));
    }, colour);
  }
  const [cleo, dan] = await Promise.all([PEOPLE[2], PEOPLE[3]].map((as) => rig.plain(t, 'chromium', session, as)));
  await until(async () => {
    const seen = await Promise.all(['ada', 'bob'].map((user) => cleo.evaluate((u) => window.probe.screens(u), user)));
    return [SPARE.orange, SPARE.violet].every((colour, at) => seen[at].filter((one) => isColour(one, colour)).length === 3);
  }, 120_000, 'all shared screens are seen');
  await expectCall([ada, bob, cleo, dan], { windows: 1, ms: 120_000 });
  t.diagnostic(`offers that met one of ours: ${await ada.evaluate(() => window.glare)} and ${await bob.evaluate(() => window.glare)}`);
});

scenario('two tabs of one user: the newest wins', async (t) => {
  const session = newSession('tabs');
  const [ada, bob] = await call(t, session, ['chromium', firefox]);
  await untilContent([ada, bob]);
  await ada.evaluate(() => {
    window.ending = new Promise((done) => {
      let error;
      socket.on('session-error', (e) => { error = e.code; });
      socket.on('disconnect', (reason) => done([error, reason]));
    });
  });
  const newest = await rig.plain(t, 'chromium', session, { ...PEOPLE[0], colour: SPARE.orange, tone: 2040 });
  const ending = await until(() => ada.evaluate(() => window.ending), SOON_MS, 'the old tab is told');
  assert.deepEqual(ending, ['session/replaced', 'io server disconnect']);
  await expectCall([newest, bob], { windows: 1 });
});

scenario('eight participants, six Chromium and two Firefox', async (t) => {
  const browsers = ['chromium', firefox, 'chromium', 'chromium', firefox, 'chromium', 'chromium', 'chromium'];
  const started = Date.now();
  const pages = await call(t, newSession('eight'), browsers, { fps: '10' });
  await untilContent(pages, 120_000);
  t.diagnostic(`eight: everyone sees and hears everyone after ${Date.now() - started} ms`);
  await expectFlow(pages, 3);
});
