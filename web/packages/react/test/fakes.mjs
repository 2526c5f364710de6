// The package as an application's build would see it, and a call that goes nowhere.

import { readFileSync } from 'node:fs';
import { createServer } from 'vite';

/** The README's example, as a module. */
const README = '/readme.tsx';
const readme = {
  name: 'readme',
  resolveId: (id) => (id === README ? id : null),
  load: (id) => (id === README ? /```tsx\n(.*?)```/s.exec(readFileSync(new URL('../README.md', import.meta.url), 'utf8'))[1] : null),
};

/** What the package exports, and the README's example. Both are looked at as a server does: there is no window yet. */
export async function load() {
  const vite = await createServer({
    root: new URL('..', import.meta.url).pathname,
    configFile: false,
    appType: 'custom',
    logLevel: 'error',
    server: { middlewareMode: true, ws: false, hmr: false, watch: null },
    optimizeDeps: { noDiscovery: true },
    plugins: [readme],
  });
  const lyceum = await vite.ssrLoadModule('/src/index.ts');
  const example = await vite.ssrLoadModule(README);
  await vite.close();
  return { lyceum, example };
}

function store(state, more) {
  const listeners = new Set();
  return {
    state,
    listeners,
    subscribe(changed) {
      listeners.add(changed);
      return () => listeners.delete(changed);
    },
    set(change) {
      this.state = { ...this.state, ...change };
      [...listeners].forEach((changed) => changed());
    },
    ...more,
  };
}

export const person = (participantId, more = {}) => ({
  participantId, userId: `u-${participantId}`, userName: participantId.toUpperCase(), isInstructor: false, role: 'participant', state: 'connected',
  handRaised: false, tracks: [], ...more,
});

/** A room that writes down what is asked of it. */
export function fakeRoom(change = {}) {
  const asked = [];
  const heard = new Map();
  const note = (name) => (...words) => { asked.push([name, ...words]); return Promise.resolve(''); };
  const room = store({
    status: 'idle', reason: '', sessionId: 's', meetingId: '', ownId: 'a', role: 'participant',
    permissions: { publish: [], subscribe: true, chat: true, data: true, moderate: false },
    rules: { locked: false, waitingRoom: false, chat: true, video: true, screenShare: true },
    participants: [person('a'), person('b')], tracks: [], speakers: [], paused: new Set(), unavailable: new Map(), qualities: new Map(),
    messages: [], hands: [], waiting: [], relayed: '', ...change,
  }, {
    asked,
    heard,
    on(event, listener) {
      heard.set(event, listener);
      return () => heard.delete(event);
    },
  });
  for (const name of ['join', 'leave', 'say', 'raiseHand', 'moderate', 'want', 'unwant']) room[name] = note(name);
  return room;
}

export function fakeMedia(change = {}) {
  const asked = [];
  const note = (name) => (...words) => { asked.push([name, ...words]); return Promise.resolve(); };
  const media = store({
    camera: null, microphone: null, microphoneOn: false, screen: null, screenAudio: null, devices: { camera: [], microphone: [], speaker: [] },
    chosen: { camera: '', microphone: '', speaker: '' }, faults: {}, ...change,
  }, { asked, level: () => 0.5 });
  for (const name of ['start', 'setMicrophone', 'setCamera', 'setScreen', 'choose', 'close']) media[name] = note(name);
  return media;
}
