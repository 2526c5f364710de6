// The rig: one server, one Chromium and one Firefox for each test file, and pages in windows of their own.

import { spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';
import { probe } from './probe.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
export const LYCEUM_BIN = resolve(here, '../..', process.env.LYCEUM_BIN ?? 'target/ci/lyceum');
export const BROWSERS = (process.env.BROWSERS ?? 'chromium,firefox').split(',');

/** Deadline of whatever takes a second or so on an idle machine. */
export const SOON_MS = 60_000;
/** Deadline of what comes with the end of the grace time, which is 20 s. */
export const GRACE_OVER_MS = 90_000;
/** Characters of the server's words that an error shows. */
const SAID_MAX = 2_000;
/** Deadlines of puppeteer itself. */
const BROWSER_MS = 120_000;

/** Polls `fn` until it gives something truthy, which is returned. At the deadline it fails, saying what was last seen. */
export async function until(fn, ms, what) {
  const deadline = Date.now() + ms;
  for (let last; ; await sleep(100)) {
    try {
      const value = await fn();
      if (value) return value;
      last = JSON.stringify(value);
    } catch (error) {
      last = error.message;
    }
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${typeof what === 'function' ? what() : what} (last: ${last})`);
  }
}

/** Sleeps where the passing of time itself is what the protocol speaks of: grace times, windows of measurement. */
export const pass = sleep;

/** First of the ports of this test file: below those that the kernel gives out, so nobody else takes them, and not those of a file before. */
const OWN_PORTS = 10_000 + (process.pid % 256) * 64;

/** In the pages' own namespace. */
const HERE = { host: '127.0.0.1', enter: [] };
/** Where the server is alone, it has these. */
const DEFAULT_PORTS = { http: 3001, admin: 9464, media: 7882, turn: 3478, tls: 5349 };

/** Starts the server under test and waits until it says that it is ready. It may be stopped and started again on the same ports. */
async function startLyceum(logName, settings, place) {
  const { http, admin, media, turn, tls } = place !== HERE ? DEFAULT_PORTS
    : { http: OWN_PORTS, admin: OWN_PORTS + 1, media: OWN_PORTS + 2, turn: 0, tls: 0 };
  const [command, ...words] = [...place.enter, LYCEUM_BIN];
  const dir = mkdtempSync(join(tmpdir(), 'lyceum-browser-'));
  const log = createWriteStream(join(here, `${logName}.server.log`));
  let child;
  let ended;
  /** What the server said last, for the one who reads why it ended. */
  let said = '';
  async function start() {
    const started = child = spawn(command, words, {
      cwd: dir,
      env: {
        ...process.env,
        SIGNALING_PORT: String(http),
        LYCEUM__ADMIN__LISTEN: `${place.host}:${admin}`,
        LYCEUM__MEDIA__PORT: String(media),
        LYCEUM__TURN__PORT: String(turn),
        LYCEUM__ADMIN__DRAIN_S: '0',
        LYCEUM__TURN__TLS_PORT: String(tls),
        ...settings,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [started.stdout, started.stderr]) {
      stream.pipe(log, { end: false });
      stream.on('data', (bytes) => { said = `${said}${bytes}`.slice(-SAID_MAX); });
    }
    ended = null;
    started.on('error', (error) => { ended = error.message; });
    started.on('close', (code, signal) => { ended ??= `ended with ${signal ?? code}`; });
    await until(async () => {
      if (ended !== null) return true;
      return (await fetch(`http://${place.host}:${admin}/readyz`)).ok;
    }, 60_000, `${LYCEUM_BIN} becomes ready`);
    if (ended !== null) throw new Error(`${LYCEUM_BIN}: ${ended}, see ${logName}.server.log; it said:\n${said}`);
  }
  async function end(signal) {
    if (ended !== null) return;
    const exit = new Promise((done) => child.once('close', done));
    child.kill(signal);
    const killer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await exit;
    clearTimeout(killer);
  }
  await start();
  return {
    url: place.url ?? `http://localhost:${http}`,
    admin: `http://${place.host}:${admin}`,
    /** Media port of the first worker; the others follow. */
    media,
    get ended() { return ended; },
    start,
    end,
    async stop() {
      await end('SIGTERM');
      log.end();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** A line to the server that can be cut, as a network does it; media takes its own way and goes on. */
async function openLine(url) {
  const { port } = new URL(url);
  const sockets = new Set();
  let whole = true;
  const server = createTcpServer((near) => {
    if (!whole) return near.destroy();
    const far = connect(Number(port), '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => { sockets.delete(from); to.destroy(); });
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://localhost:${server.address().port}`,
    cut() { whole = false; sockets.forEach((socket) => socket.destroy()); },
    mend() { whole = true; },
    close() { this.cut(); server.close(); },
  };
}

/** Serves the plain pages from an origin of their own, as an application would. */
async function servePages() {
  const files = {
    '/plain.html': ['plain.html', 'text/html; charset=utf-8'],
    '/mesh.html': ['mesh.html', 'text/html; charset=utf-8'],
    '/layers.html': ['layers.html', 'text/html; charset=utf-8'],
    '/crowd.html': ['crowd.html', 'text/html; charset=utf-8'],
    '/socket.io.js': ['node_modules/socket.io-client/dist/socket.io.min.js', 'text/javascript'],
  };
  const server = createServer((request, response) => {
    const file = files[new URL(request.url, 'http://x').pathname];
    if (!file) return response.writeHead(204).end(); // the browsers ask for a favicon
    response.writeHead(200, { 'content-type': file[1] }).end(readFileSync(join(here, file[0])));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://localhost:${server.address().port}`,
    stop: () => new Promise((done) => { server.close(done); server.closeAllConnections(); }),
  };
}

/** `trust` (of trust.mjs) is the home of a user who trusts one authority more. */
const launch = {
  chromium: (trust) => puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    protocolTimeout: BROWSER_MS,
    timeout: BROWSER_MS,
    env: trust ? { ...process.env, HOME: trust.home } : process.env,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
      '--autoplay-policy=no-user-gesture-required', '--allow-loopback-in-peer-connection',
      '--auto-select-desktop-capture-source=Entire screen',
      '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
    ],
  }),
  firefox: (trust) => puppeteer.launch({
    browser: 'firefox',
    userDataDir: trust?.profile,
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox',
    headless: true,
    protocolTimeout: BROWSER_MS,
    timeout: BROWSER_MS,
    env: { ...process.env, HOME: trust?.home ?? mkdtempSync(join(tmpdir(), 'lyceum-firefox-')) },
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      // Pages in the background paint and count on as if they were seen.
      'dom.min_background_timeout_value': 10,
      'dom.timeout.enable_budget_timer_throttling': false,
      'dom.suspend_inactive.enabled': false,
      'widget.windows.window_occlusion_tracking.enabled': false,
      'media.gmp-manager.updateEnabled': false,
      // Where the tests make the network, pages are told that there is one again, as people's are.
      'network.manage-offline-status': trust !== undefined,
    },
  }),
};

/**
 * All that the tests of one file share; `settings` are environment variables of the server, `place` says where it is if not here,
 * and `trust` which authority the browsers trust. `close()` at the end.
 */
export async function openRig(logName, settings = {}, { place = HERE, trust } = {}) {
  const lyceum = await startLyceum(logName, settings, place);
  const pages = await servePages();
  const browsers = {};
  const consoleLog = createWriteStream(join(here, `${logName}.console.log`));
  for (const name of BROWSERS) browsers[name] = await launch[name](trust);

  /** A page in a window of its own. The context is closed with the test `t`. */
  async function open(t, browserName, url, { before, viewport = { width: 640, height: 480 }, permissions = [] } = {}) {
    const context = await browsers[browserName].createBrowserContext();
    t.after(() => context.close().catch(() => {}));
    if (permissions.length && browserName === 'chromium') await context.overridePermissions(new URL(url).origin, permissions);
    const page = await context.newPage();
    page.browserName = browserName;
    page.on('console', (message) => consoleLog.write(`${new Date().toISOString()} ${url} ${message.type()}: ${message.text()}\n`));
    page.on('pageerror', (error) => consoleLog.write(`${new Date().toISOString()} ${url} uncaught: ${error.stack ?? error}\n`));
    page.setDefaultTimeout(BROWSER_MS);
    if (viewport) await page.setViewport(viewport);
    await page.evaluateOnNewDocument(probe);
    // Firefox opens pages as tabs of one window: those behind would tell the server that nobody sees them.
    await page.evaluateOnNewDocument(() => Object.defineProperty(document, 'visibilityState', { get: () => 'visible' }));
    if (before) await page.evaluateOnNewDocument(before);
    await page.goto(url, { waitUntil: 'load' });
    return page;
  }

  return {
    lyceum,
    browsers,
    open,
    line: () => openLine(lyceum.url),
    /** A participant on the plain page. `as` gives `user`, `colour`, `tone`, and may give `fps`, `recv`. */
    plain: (t, browserName, session, as, options) => openAs(open, t, browserName, `${pages.url}/plain.html`, lyceum.url, session, as, options),
    /** A participant on the page with layers. `as` gives `user`, and may give `send`, `svc`, `through`. */
    layers: (t, browserName, session, as, options) => openAs(open, t, browserName, `${pages.url}/layers.html`, lyceum.url, session, as, options),
    /** A page that holds `count` seats, each with a picture. */
    crowd: (t, browserName, session, count) => openAs(open, t, browserName, `${pages.url}/crowd.html`, lyceum.url, session, { count }),
    /**
     * Such a client asks for the camera, and may use it. Without that Chromium names its own addresses by mDNS, which nobody answers
     * here, and a Firefox to which no other candidates come may look for ever: the pages talk to one another, not to the server.
     */
    mesh: (t, browserName, session, as) => openAs(open, t, browserName, `${pages.url}/mesh.html`, lyceum.url, session, as, { permissions: ['camera', 'microphone'] }),
    async close() {
      await Promise.allSettled(Object.values(browsers).map((browser) => browser.close()));
      await pages.stop();
      const { ended } = lyceum;
      await lyceum.stop();
      consoleLog.end();
      if (ended !== null) throw new Error(`the server ended during the tests: ${ended}`);
    },
  };
}

/** Reloads a page as its user would; puppeteer's own `reload` waits for more than the new document. */
export async function reload(page) {
  await page.evaluate(() => {
    window.beforeReload = true;
    setTimeout(() => location.reload());
  });
  await until(() => page.evaluate(() => !window.beforeReload && document.readyState === 'complete'), SOON_MS, 'the page is reloaded');
}

async function openAs(open, t, browserName, address, server, session, as, options) {
  const { name, ...query } = as;
  const url = `${address}?${new URLSearchParams({ server, session, ...query })}`;
  const page = await open(t, browserName, url, options);
  page.as = as;
  return page;
}
