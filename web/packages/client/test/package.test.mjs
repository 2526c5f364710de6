// The package as npm would get it: small, whole, and harmless where there is no browser.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync, mkdirSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const require = createRequire(import.meta.url);

test('it may be imported without a browser, and gives what it promises', async () => {
  const all = await import(join(dist, JSON.parse(readFileSync(join(dist, 'package.json'), 'utf8')).exports['.'].default));
  assert.deepEqual(Object.keys(all).sort(), ['canShareScreen', 'claimsOf', 'createLocalMedia', 'createRoom', 'fit', 'wordsFor']);
  const room = all.createRoom({ sessionId: 'algebra', media: all.createLocalMedia() });
  room.subscribe(() => {})();
  room.leave();
  assert.deepEqual([room.state.status, all.canShareScreen()], ['idle', false]);
  room.join();
  assert.deepEqual([room.state.status, room.state.reason], ['ended', 'browser/unsupported']);
});

test('it stands on socket.io-client alone', () => {
  const manifest = JSON.parse(readFileSync(join(dist, 'package.json'), 'utf8'));
  assert.deepEqual(Object.keys(manifest.dependencies), ['socket.io-client']);
  const imported = readdirSync(dist).filter((name) => name.endsWith('.js'))
    .flatMap((name) => [...readFileSync(join(dist, name), 'utf8').matchAll(/^(?:import|export).* from '([^']+)'/gm)].map((match) => match[1]));
  assert.deepEqual([...new Set(imported.filter((name) => !/^\.\/\w+\.js$/.test(name)))], ['socket.io-client']);
});

test('its types are found by bundlers and by Node, with libraries checked', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'lyceum-client-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  cpSync(dist, join(dir, 'node_modules/@lyceum/client'), { recursive: true });
  // The folder of packages that holds socket.io-client holds all that it needs.
  const modules = dirname(dirname(require.resolve('socket.io-client/package.json')));
  mkdirSync(join(dir, 'node_modules'), { recursive: true });
  for (const name of ['socket.io-client', 'socket.io-parser', 'engine.io-client', 'engine.io-parser', '@socket.io']) {
    symlinkSync(join(modules, name), join(dir, 'node_modules', name));
  }
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(dir, 'page.ts'), `
    import { createRoom, wordsFor, type Room, type RoomState } from '@lyceum/client';
    const room: Room = createRoom({ sessionId: 'algebra', token: async () => 'x' });
    const { tracks }: RoomState = room.state;
    export const first: MediaStreamTrack | undefined = tracks[0]?.track;
    room.on('data', ({ label, data }) => console.log(label.length, typeof data));
    // @ts-expect-error -- there is no such event
    room.on('nothing', () => {});
    export const words: string = wordsFor(room.state.reason);
  `);
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc');
  for (const [module, resolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
    execFileSync(process.execPath, [tsc, '--noEmit', '--skipDefaultLibCheck', '--strict', '--target', 'es2022', '--lib', 'es2022,dom,dom.iterable', '--module', module, '--moduleResolution', resolution, '--types', '', 'page.ts'], { cwd: dir, stdio: 'pipe', encoding: 'utf8' });
  }
});
