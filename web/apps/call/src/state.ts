// What the page shows, as signals, and what its buttons do.

import { computed, signal } from '@preact/signals';
import { Call, type Status } from '@lyceum/client/call';
import { DeviceError, listDevices, openCamera, openMicrophone, openScreen, type Device, type DeviceKind } from '@lyceum/client/devices';
import type { RemoteTrack } from '@lyceum/client/peer';
import { wordsFor } from '@lyceum/client/protocol';
import type { ChatMessage, Moderated, Participant, Permissions, Quality, Source, Wish } from '@lyceum/client/protocol';
import type { Relay, Relayed } from '@lyceum/client/relay';
import { claims, joinToken, renewToken } from './token';

const query = new URLSearchParams(location.search);

/** Storage may be forbidden to the page: then nothing is remembered. */
function stored(storage: 'localStorage' | 'sessionStorage', key: string, value?: string | null): string {
  try {
    if (value === null) window[storage].removeItem(key);
    else if (value !== undefined) window[storage].setItem(key, value);
    return window[storage].getItem(key) ?? '';
  } catch {
    return '';
  }
}

function ownUserId(): string {
  const given = claims.sub || query.get('user') || stored('sessionStorage', 'lyceum.user');
  return given || stored('sessionStorage', 'lyceum.user', `user-${crypto.randomUUID()}`) || `user-${crypto.randomUUID()}`;
}

export const userId = ownUserId();
export const userName = signal(claims.name ?? query.get('name') ?? (stored('localStorage', 'lyceum.name') || claims.sub || ''));
export const sessionId = signal(claims.sessionId ?? query.get('session') ?? stored('localStorage', 'lyceum.session'));
export const isInstructor = joinToken() ? claims.role === 'instructor' : query.get('instructor') === '1';
/** `?relay=1`, or `udp`, `tcp` or `tls`. */
export const relayWanted = (['1', 'udp', 'tcp', 'tls'].find((one) => one === query.get('relay')) ?? '') as Relay;

export type Panel = 'people' | 'chat' | 'settings';

export const status = signal<Status | 'lobby'>('lobby');
/** Why the call waits, while it does. */
export const waitsBecause = signal('');
export const endedBecause = signal('');
export const notice = signal('');
/** What the notice lets one do about it. */
export const noticeButton = signal<{ label: string; press(): void } | null>(null);
const EVERYTHING: Permissions = { publish: ['camera', 'microphone', 'screen', 'screen-audio'], subscribe: true, chat: true, data: true, moderate: false };
export const permissions = signal<Permissions>(claims.role === 'observer' ? { ...EVERYTHING, publish: [], chat: false } : EVERYTHING);
export const may = (source: Source): boolean => permissions.value.publish.includes(source);
export const ownId = signal('');
export const participants = signal<Participant[]>([]);
export const tracks = signal<RemoteTrack[]>([]);
export const speaking = signal<ReadonlySet<string>>(new Set());
/** Tracks whose picture stands still because this person's line is too narrow. */
export const paused = signal<ReadonlySet<string>>(new Set());
/** How good each connection is, by participant. */
export const qualities = signal<ReadonlyMap<string, Quality>>(new Map());
/** By what this person's media reaches a TURN server, if it goes by one. */
export const relayed = signal<Relayed>('');
export const messages = signal<ChatMessage[]>([]);
export const unread = signal(0);
/** What a screen reader says: who comes and goes, and what is written while the chat is closed. */
export const announced = signal('');
export const panel = signal<'none' | Panel>('none');
export const soundBlocked = signal(false);

export const camera = signal<MediaStreamTrack | null>(null);
export const microphone = signal<MediaStreamTrack | null>(null);
export const microphoneOn = signal(false);
export const screen = signal<MediaStreamTrack | null>(null);
export const devices = signal<Record<DeviceKind, Device[]>>({ camera: [], microphone: [], speaker: [] });
const remembered = (kind: DeviceKind) => signal(stored('localStorage', `lyceum.${kind}`));
/** Device ids; empty: the browser's own choice. */
export const chosen = { camera: remembered('camera'), microphone: remembered('microphone'), speaker: remembered('speaker') };
export const shortcuts = signal(stored('localStorage', 'lyceum.shortcuts') !== 'off');
const ownEntry = computed(() => participants.value.find((one) => one.participantId === ownId.value));
export const hand = computed(() => ownEntry.value?.handRaised === true);
/** Where only the session's rules switch the chat off, hands are left. */
export const mayRaiseHand = computed(() => permissions.value.chat || ownEntry.value?.role !== 'observer');

/** The longest chat message, in UTF-8 bytes, and how many are kept on the page. */
export const MESSAGE_BYTES_MAX = 4_000;
const MESSAGES_MAX = 500;

let call: Call | null = null;
let noticeTimer = 0;

const NOTICE_MS = 8_000;
/** So long one may think about what a notice asks. */
const QUESTION_MS = 60_000;

export function tell(text: string, button: { label: string; press(): void } | null = null): void {
  notice.value = text;
  noticeButton.value = button;
  clearTimeout(noticeTimer);
  noticeTimer = window.setTimeout(() => tell(''), button ? QUESTION_MS : NOTICE_MS);
}

async function trying(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    tell(error.message);
  }
}

/** Asks for both devices, each by itself, so that one that is missing does not cost the other. */
export async function openDevices(): Promise<void> {
  navigator.mediaDevices?.addEventListener('devicechange', () => void lookAtDevices());
  if (stored('sessionStorage', 'lyceum.microphone') !== 'off') await toggleMicrophone();
  if (stored('sessionStorage', 'lyceum.camera') !== 'off') await toggleCamera();
}

async function lookAtDevices(): Promise<void> {
  devices.value = await listDevices();
}

/** Takes another device, at once if the old one is in use, and remembers it. */
export const choose = (kind: DeviceKind, id: string): Promise<void> => trying(async () => {
  chosen[kind].value = id;
  stored('localStorage', `lyceum.${kind}`, id);
  if (kind === 'camera' && camera.value) await startCamera();
  if (kind === 'microphone' && microphone.value) await startMicrophone();
});

export function setShortcuts(on: boolean): void {
  shortcuts.value = on;
  stored('localStorage', 'lyceum.shortcuts', on ? 'on' : 'off');
}

async function startMicrophone(): Promise<void> {
  const old = microphone.value;
  const track = await openMicrophone(chosen.microphone.value);
  if (!may('microphone')) return track.stop();
  track.onended = () => { microphoneOn.value = false; call?.setMuted('microphone', true); };
  track.enabled = old ? microphoneOn.value : true;
  microphone.value = track;
  old?.stop();
  call?.publish('microphone', track, !track.enabled);
  void lookAtDevices();
}

async function startCamera(): Promise<void> {
  const old = camera.value;
  const track = await openCamera(chosen.camera.value);
  if (!may('camera')) return track.stop();
  track.onended = cameraOff;
  camera.value = track;
  old?.stop();
  call?.publish('camera', track);
  void lookAtDevices();
}

export const toggleMicrophone = (): Promise<void> => trying(async () => {
  const on = !microphoneOn.value;
  if (on && !may('microphone')) return;
  if (on && (!microphone.value || microphone.value.readyState === 'ended')) {
    microphone.value = null;
    await startMicrophone();
  }
  if (on && !microphone.value) return; // it may not be used any more
  if (microphone.value) microphone.value.enabled = on;
  microphoneOn.value = on;
  call?.setMuted('microphone', !on);
  stored('sessionStorage', 'lyceum.microphone', on ? 'on' : 'off');
});

function cameraOff(): void {
  camera.value?.stop();
  camera.value = null;
  call?.pause('camera');
}

export const toggleCamera = (): Promise<void> => trying(async () => {
  if (camera.value) {
    cameraOff();
  } else if (may('camera')) {
    await startCamera();
  }
  stored('sessionStorage', 'lyceum.camera', camera.value ? 'on' : 'off');
});

function screenOff(): void {
  screen.value?.stop();
  screen.value = null;
  call?.unpublish('screen');
  call?.unpublish('screen-audio');
}

export const toggleScreen = (): Promise<void> => trying(async () => {
  if (screen.value) return screenOff();
  if (!may('screen')) return;
  const shared = await openScreen();
  if (!shared) return;
  shared.video.onended = screenOff;
  screen.value = shared.video;
  call?.publish('screen', shared.video);
  if (shared.audio && may('screen-audio')) call?.publish('screen-audio', shared.audio);
});

/** Takes back what may not be sent any more. Whoever may again turns it on. */
function permit(now: Permissions): void {
  permissions.value = now;
  if (!may('microphone')) {
    microphone.value?.stop();
    microphone.value = null;
    microphoneOn.value = false;
    call?.unpublish('microphone');
  }
  if (!may('camera')) {
    call?.unpublish('camera');
    cameraOff();
  }
  if (!may('screen')) screenOff();
  if (!may('screen-audio')) call?.unpublish('screen-audio');
  if (!now.chat && panel.value === 'chat') panel.value = 'none';
}

const MUTED: Record<Source, string> = {
  microphone: 'muted you',
  camera: 'turned your camera off',
  screen: 'stopped the screen that you shared',
  'screen-audio': 'muted the sound of your screen',
};

/** Somebody who may moderate did something to this person. Nobody turns a microphone or camera on but its owner. */
function moderated({ action, source, by }: Moderated): void {
  const who = participants.value.find((one) => one.userId === by)?.userName ?? 'The instructor';
  if (action === 'mute' || action === 'mute-all') {
    const meant = (one: Source) => !source || source === one;
    if (meant('microphone') && microphoneOn.value) void toggleMicrophone();
    if (meant('camera') && camera.value) void toggleCamera();
    if (meant('screen') && screen.value) screenOff();
    if (meant('screen-audio')) call?.unpublish('screen-audio');
    tell(`${who} ${MUTED[source ?? 'microphone']}.`);
  } else if (action === 'ask-unmute') {
    const [what, on, turn] = source === 'camera' ? ['camera', camera.value !== null, toggleCamera] as const : ['microphone', microphoneOn.value, toggleMicrophone] as const;
    if (!on && may(what)) tell(`${who} asks you to turn your ${what} on.`, { label: 'Turn it on', press: () => { tell(''); void turn(); } });
  } else if (action === 'lower-hands') {
    tell(`${who} lowered your hand.`);
  }
}

export function toggleHand(): void {
  void call?.raiseHand(!hand.value);
}

/** Opens a panel, or closes it: then the focus goes back to its button. */
export function togglePanel(which: Panel): void {
  const closes = panel.value === which;
  panel.value = closes ? 'none' : which;
  if (panel.value === 'chat') unread.value = 0;
  if (closes) document.querySelector<HTMLElement>(`[data-action="${which}"]`)?.focus();
}

export async function say(text: string): Promise<void> {
  await call?.say(text);
}

export function join(before?: Seat): void {
  const [session, name] = [sessionId.value.trim(), userName.value.trim()];
  if (!session || !name || (status.value !== 'lobby' && status.value !== 'ended')) return;
  stored('localStorage', 'lyceum.name', name);
  stored('localStorage', 'lyceum.session', session);
  history.replaceState(null, '', addressOf(session));
  messages.value = [];
  paused.value = new Set();
  qualities.value = new Map();
  relayed.value = '';
  const options = { sessionId: session, userId, userName: name, isInstructor, relay: relayWanted, token: joinToken };
  call = new Call(before ? { ...options, resumeToken: before.resumeToken, stale: before.origin } : options, {
    status: (now, code) => {
      status.value = now;
      waitsBecause.value = code ? wordsFor(code) : '';
      if (now === 'ended') ended(code);
    },
    joined: (seat) => {
      ownId.value = seat.participantId;
      remember({ session, name, user: userId, resumeToken: seat.resumeToken, origin: seatHere?.origin ?? before?.origin ?? '' });
    },
    waiting: () => { waitsBecause.value = 'The instructor will let you in.'; },
    token: renewToken,
    permissions: permit,
    moderated,
    origin: (id) => { if (seatHere && seatHere.origin !== id) remember({ ...seatHere, origin: id }); },
    roster: (all) => {
      announceChange(all);
      participants.value = all;
    },
    tracks: (all) => { tracks.value = all; },
    speakers: (ids) => { speaking.value = new Set(ids); },
    paused: (trackId, is) => {
      const next = new Set(paused.value);
      if (is) next.add(trackId);
      else next.delete(trackId);
      paused.value = next;
    },
    relayed: (how) => { relayed.value = how; },
    quality: (one) => { qualities.value = new Map(qualities.value).set(one.participantId, one); },
    chat: (message) => {
      if (messages.value.some((one) => one.id === message.id)) return;
      messages.value = [...messages.value, message].slice(-MESSAGES_MAX);
      if (panel.value === 'chat') return;
      unread.value++;
      announced.value = `Message from ${message.userName}: ${message.message}`;
    },
    refused: (code) => tell(wordsFor(code)),
  });
  if (microphone.value) call.publish('microphone', microphone.value, !microphoneOn.value);
  if (camera.value) call.publish('camera', camera.value);
  call.start();
}

/** Says who came and who went, once the own seat is in the roster. */
function announceChange(all: Participant[]): void {
  const before = participants.value;
  if (!before.some((one) => one.participantId === ownId.value)) return;
  const missing = (some: Participant[], from: Participant[]) => some.filter(({ participantId }) => !from.some((one) => one.participantId === participantId));
  const words = [
    ...missing(all, before).filter((one) => one.participantId !== ownId.value).map((one) => `${one.userName} joined.`),
    ...missing(before, all).map((one) => `${one.userName} left.`),
  ];
  if (words.length) announced.value = words.join(' ');
}

export function leave(): void {
  call?.leave();
}

function ended(code?: string): void {
  call = null;
  screenOff();
  seatHere = null;
  stored('sessionStorage', 'lyceum.seat', null);
  participants.value = [];
  panel.value = 'none';
  unread.value = 0;
  endedBecause.value = code ? wordsFor(code) : 'You left the call.';
}

function addressOf(session: string): string {
  const next = new URLSearchParams(query);
  next.set('session', session);
  return `?${next}`;
}

/** A tab that was in a call when it was reloaded goes back to its seat. */
interface Seat {
  session: string;
  name: string;
  user: string;
  resumeToken: string;
  origin: string;
}

let seatHere: Seat | null = null;

function remember(seat: Seat): void {
  seatHere = seat;
  stored('sessionStorage', 'lyceum.seat', JSON.stringify(seat));
}

/** Goes back to the seat that this tab had before it was reloaded. Cameras need not be open for it. */
export function rejoin(): void {
  const text = stored('sessionStorage', 'lyceum.seat');
  if (!text) return;
  const seat = JSON.parse(text) as Seat;
  const wanted = claims.sessionId ?? query.get('session');
  if ((wanted && wanted !== seat.session) || seat.user !== userId) return;
  sessionId.value = seat.session;
  userName.value = claims.name ?? seat.name;
  join(seat);
}

/** The page comes back to light: from the background, from a network that was gone, from a closed lid. */
export function watchAwakening(): void {
  const wake = (): void => { if (document.visibilityState === 'visible') call?.wake(); };
  addEventListener('online', wake);
  addEventListener('pagehide', () => call?.abandon());
  addEventListener('pageshow', (event) => { if (event.persisted && call) location.reload(); });
  document.addEventListener('visibilitychange', wake);
}

/** What one participant sends of a source. */
export function trackOf(participantId: string, source: Source): RemoteTrack | null {
  return tracks.value.find((one) => one.participantId === participantId && one.source === source) ?? null;
}

/** How large a track is shown; nothing of it is sent while it is not seen. */
export function want(trackId: string, wish: Wish): void {
  call?.want(trackId, wish);
}

export function unwant(trackId: string): void {
  call?.forget(trackId);
}
