// Starts the real binary on free ports and says when it is ready.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const REPOSITORY = resolve(import.meta.dirname, '../../..');
const BINARY = resolve(process.env.LYCEUM_BIN ?? join(REPOSITORY, 'target/ci/lyceum'));
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 10_000;
/** HTTP, admin, one media port for each of up to four workers, and HTTPS. */
const PORTS_PER_SERVER = 7;

function tcpFree(port) {
  return new Promise((done) => {
    const probe = createServer();
    probe.once('error', () => done(false));
    probe.listen(port, '0.0.0.0', () => probe.close(() => done(true)));
  });
}

function udpFree(port) {
  return new Promise((done) => {
    const probe = createSocket('udp4');
    probe.once('error', () => done(false));
    probe.bind(port, '0.0.0.0', () => probe.close(() => done(true)));
  });
}

/** A run of free ports below the ephemeral range, so that no client socket takes one meanwhile. */
async function freePorts() {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const base = 12_000 + Math.floor(Math.random() * 18_000);
    const ports = Array.from({ length: PORTS_PER_SERVER }, (_, i) => base + i);
    const free = await Promise.all(ports.flatMap((port) => [tcpFree(port), udpFree(port)]));
    if (free.every(Boolean)) return base;
  }
  throw new Error('no run of free ports found');
}

/** Starts a server; `settings` are further `LYCEUM__…` variables, or what gives them for the port of HTTPS. */
export async function startServer(settings = {}) {
  const base = await freePorts();
  const directory = mkdtempSync(join(tmpdir(), 'lyceum-clients-'));
  const child = spawn(BINARY, [], {
    // The default store is `./data/`, so a directory of its own keeps servers apart.
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: directory,
      LYCEUM__HTTP__LISTEN: `127.0.0.1:${base}`,
      LYCEUM__ADMIN__LISTEN: `127.0.0.1:${base + 1}`,
      LYCEUM__MEDIA__PORT: String(base + 2),
      LYCEUM__TURN__PORT: '0',
      LYCEUM__ADMIN__DRAIN_S: '0',
      LYCEUM__TURN__TLS_PORT: '0',
      ...(typeof settings === 'function' ? settings(base + 6) : settings),
    },
  });
  const server = {
    port: base,
    url: `http://127.0.0.1:${base}`,
    secureUrl: `https://localhost:${base + 6}`,
    admin: `http://127.0.0.1:${base + 1}`,
    pid: child.pid,
    log: '',
    exited: undefined,
    rssKb() {
      return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]);
    },
    async stop() {
      if (server.exited === undefined) {
        const gone = new Promise((done) => child.once('exit', done));
        child.kill('SIGTERM');
        // A server told to stop may drain; the tests have nothing left to drain, so this is long enough.
        const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
        await gone;
        clearTimeout(timer);
      }
      rmSync(directory, { recursive: true, force: true });
    },
  };
  const keep = (bytes) => { server.log = (server.log + bytes).slice(-64_000); };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  child.once('error', (error) => { server.exited = error.message; });
  child.once('exit', (code, signal) => { server.exited ??= `code ${code}, signal ${signal}`; });

  for (const started = Date.now(); Date.now() - started < READY_MS_MAX; await sleep(50)) {
    if (server.exited !== undefined) break;
    const ready = await fetch(`${server.admin}/readyz`).then((r) => r.status, () => 0);
    if (ready === 200) return server;
  }
  const why = server.exited === undefined ? 'not ready in time' : `ended: ${server.exited}`;
  await server.stop();
  throw new Error(`${BINARY}: ${why}\n${server.log}`);
}
