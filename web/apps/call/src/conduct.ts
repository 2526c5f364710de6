// Goes into calls and out of them, and answers what happens in them.

import { wordsFor } from '@lyceum/client';
import { permissionsOf as roleBrings } from '@lyceum/client/token';
import type { LocalMedia, MediaState, Moderated, Moderation, Permissions, Room, RoomOptions, RoomState, Seat, Source } from '@lyceum/client';
import { addressOf, ask, isInstructor, page, relayWanted, tell, togglePanel, userId, wantedSession } from './page';
import { stored } from './storage';
import { words } from './strings';
import { claims, joinToken, renewToken } from './token';
import { wakeLock } from './wake';

export interface Makers {
  media: LocalMedia;
  createRoom(options: RoomOptions): Room;
}

/** Set once, before anything is shown. */
export let media: LocalMedia;
let createRoom: Makers['createRoom'];

/** What this person may do, as far as is known: the server says more when it lets them in. */
export const permissionsOf = (room: Room | null): Permissions =>
  (room?.state.ownId ? room.state.permissions : roleBrings(claims.role, claims.permissions));

const may = (source: Source): boolean => permissionsOf(page.state.room).publish.includes(source);

/** The longest chat message, in UTF-8 bytes. */
export const MESSAGE_BYTES_MAX = 4_000;

// Devices.

export function toggleMicrophone(): Promise<void> {
  const on = !media.state.microphoneOn;
  return on && !may('microphone') ? Promise.resolve() : media.setMicrophone(on);
}

export function toggleCamera(): Promise<void> {
  const on = !media.state.camera;
  return on && !may('camera') ? Promise.resolve() : media.setCamera(on);
}

export function toggleScreen(): Promise<void> {
  const on = !media.state.screen;
  return on && !may('screen') ? Promise.resolve() : media.setScreen(on);
}

/** In the call there is no place for faults beside the devices: a notice tells of new ones. */
function tellFaults(before: MediaState['faults'], now: MediaState['faults']): void {
  if (page.state.view !== 'call') return;
  for (const device of ['microphone', 'camera', 'screen'] as const) {
    const fault = now[device];
    if (fault && fault !== before[device]) tell(wordsFor(fault, device));
  }
}

// Into the call and out of it.

/** A tab that was in a call when it was reloaded goes back to its seat. */
interface Remembered extends Seat {
  session: string;
  name: string;
  user: string;
}

const SEAT = 'lyceum.seat';

/** A call that is connected while somebody looks into the mirror. */
let prepared: Room | null = null;

function makeRoom(session: string, name: string, seat?: Seat): Room {
  return createRoom({
    sessionId: session, userId, userName: name, isInstructor, relay: relayWanted, media,
    ...(joinToken() && { token: joinToken }), ...(seat && { seat }),
  });
}

export function join(seat?: Seat): void {
  const [session, name] = [page.state.sessionId.trim(), page.state.userName.trim()];
  if (!session || !name || page.state.view === 'call') return;
  stored('localStorage', 'lyceum.name', name);
  stored('localStorage', 'lyceum.session', session);
  history.replaceState(null, '', addressOf(session));
  const room = (!seat && prepared) || makeRoom(session, name, seat);
  prepared = null;
  room.on('seat', (now) => stored('sessionStorage', SEAT, JSON.stringify({ ...now, session, name, user: userId } satisfies Remembered)));
  room.on('token', renewToken);
  room.on('refused', (code) => tell(wordsFor(code)));
  room.on('moderated', moderated);
  room.on('reaction', reacted);
  room.on('draining', () => tell(words.call.draining));
  let before = room.state;
  room.subscribe(() => {
    const now = room.state;
    const was = before;
    before = now;
    changed(room, was, now);
  });
  page.set({ view: 'call', room, endedBecause: '', panel: 'none', unread: 0, pinned: '', attended: '', announced: '' });
  if (page.state.audioOnly) room.setAudioOnly(true);
  tellFaults({}, media.state.faults);
  room.join({ sessionId: session, userName: name });
}

/** Goes back to the seat that this tab had before it was reloaded. Cameras need not be open for it. */
function rejoin(): void {
  const text = stored('sessionStorage', SEAT);
  if (!text) return;
  const seat = JSON.parse(text) as Remembered;
  if ((wantedSession && wantedSession !== seat.session) || seat.user !== userId) return;
  page.set({ sessionId: seat.session, userName: claims.name ?? seat.name });
  join({ resumeToken: seat.resumeToken, origin: seat.origin });
}

function changed(room: Room, was: RoomState, now: RoomState): void {
  if (room !== page.state.room) return;
  if (now.status === 'ended') return ended(now);
  if (!now.permissions.chat && page.state.panel === 'chat') page.set({ panel: 'none' });
  if (now.meetingId && now.permissions.moderate && joinToken()) page.set({ attended: now.meetingId });
  if (now.participants !== was.participants) announceChange(was, now);
  if (now.messages !== was.messages) countUnread(was, now);
  if (now.waiting !== was.waiting) tellWaiting(was, now);
}

function ended(state: RoomState): void {
  stored('sessionStorage', SEAT, null);
  wakeLock(false);
  page.set({
    view: 'ended', room: null, panel: 'none', unread: 0, question: null, draft: '', pushing: false, unlockSound: null,
    reactions: new Map(),
    dialog: page.state.dialog === 'attendance' ? 'attendance' : 'none',
    endedBecause: state.reason ? wordsFor(state.reason) : words.lobby.left,
  });
}

/** Says who came and who went, once the own seat is in the roster. */
function announceChange(was: RoomState, now: RoomState): void {
  if (!was.participants.some((one) => one.participantId === was.ownId)) return;
  const missing = (some: RoomState, from: RoomState) => some.participants.filter(({ participantId }) =>
    participantId !== now.ownId && !from.participants.some((one) => one.participantId === participantId));
  const said = [...missing(now, was).map((one) => words.call.came(one.userName)), ...missing(was, now).map((one) => words.call.gone(one.userName))];
  if (said.length) page.set({ announced: said.join(' ') });
  const pinned = page.state.pinned.replace('screen:', '');
  if (pinned && !now.participants.some((one) => one.participantId === pinned)) page.set({ pinned: '' });
}

/** What was said before one came is not unread. */
function countUnread(was: RoomState, now: RoomState): void {
  if (was.status === 'idle' || was.status === 'connecting' || was.status === 'waiting' || page.state.panel === 'chat') return;
  const known = new Set(was.messages.map((one) => one.id));
  const fresh = now.messages.filter((one) => !known.has(one.id) && one.userId !== userId);
  const last = fresh.at(-1);
  if (last) page.set({ unread: page.state.unread + fresh.length, announced: words.chat.from(last.userName, last.message) });
}

function tellWaiting(was: RoomState, now: RoomState): void {
  const fresh = now.waiting.filter((one) => !was.waiting.some(({ waitingId }) => waitingId === one.waitingId));
  const [one] = fresh;
  if (!one || page.state.panel === 'people') return;
  if (now.waiting.length > 1) tell(words.people.manyWait(now.waiting.length), { label: words.people.look, press: () => togglePanel('people') });
  else tell(words.people.waits(one.userName), { label: words.people.admit, press: () => void moderate({ action: 'admit', participantId: one.waitingId }) });
}

/** Somebody who may moderate did something to this person. Nobody turns a microphone or camera on but its owner. */
function moderated({ action, source, by, role }: Moderated): void {
  const { moderated: say } = words;
  const who = page.state.room?.state.participants.find((one) => one.userId === by)?.userName ?? say.by;
  if (action === 'mute' || action === 'mute-all') {
    tell(say.did(who, say.muted[source ?? 'microphone']));
  } else if (action === 'ask-unmute') {
    const what = source === 'camera' ? 'camera' : 'microphone';
    const on = what === 'camera' ? media.state.camera !== null : media.state.microphoneOn;
    const turn = what === 'camera' ? toggleCamera : toggleMicrophone;
    if (!on && may(what)) tell(say.asks(who, what), { label: say.turnOn, press: () => void turn() });
  } else if (action === 'lower-hands') {
    tell(say.lowered(who));
  } else if (action === 'promote') {
    tell(say.promoted(who, role));
  }
}

/** So long an emoji is seen; and no longer than this are those that are passed on. */
const REACTION_MS = 4_000;
const EMOJI_LENGTH_MAX = 8;

function reacted({ participantId, emoji }: { participantId: string; emoji: string }): void {
  const who = page.state.room?.state.participants.find((one) => one.participantId === participantId);
  if (!who || emoji.length > EMOJI_LENGTH_MAX) return;
  page.set({ reactions: new Map(page.state.reactions).set(participantId, emoji), announced: words.call.reaction(who.userName, emoji) });
  setTimeout(() => {
    const reactions = new Map(page.state.reactions);
    if (reactions.delete(participantId)) page.set({ reactions });
  }, REACTION_MS);
}

export function react(emoji: string): void {
  void page.state.room?.react(emoji).then((code) => { if (code) tell(wordsFor(code)); });
}

/** An order to the server; a refusal is told. */
export async function moderate(order: Moderation): Promise<void> {
  const code = await page.state.room?.moderate(order);
  if (code) tell(wordsFor(code));
}

export function toggleHand(): void {
  const room = page.state.room;
  if (room) void room.raiseHand(!room.state.hands.includes(room.state.ownId)).then((code) => { if (code) tell(wordsFor(code)); });
}

/** Leaves at once, but for what would be lost: an unsent message, and a class without an instructor. */
export function leave(): void {
  const room = page.state.room;
  if (!room) return;
  const { participants, ownId, permissions } = room.state;
  const others = participants.filter((one) => one.participantId !== ownId);
  const isLast = permissions.moderate && others.length > 0 && !others.some((one) => one.role === 'instructor' || one.isInstructor);
  const unsent = page.state.draft.trim() !== '';
  if (room.state.status !== 'joined' || (!isLast && !unsent)) return room.leave();
  ask({
    title: words.ask.leave,
    why: [isLast && words.ask.leaveOn, unsent && words.ask.unsent].filter(Boolean).join(' '),
    answers: [
      ...(isLast ? [{ label: words.ask.yes.end, danger: true, action: 'confirm-end', press: () => void moderate({ action: 'end' }) }] : []),
      { label: words.ask.yes.leave, danger: !isLast, action: 'confirm-leave', press: () => room.leave() },
    ],
  });
}

export function endForAll(): void {
  const { end, endWhy, yes } = words.ask;
  ask({ title: end, why: endWhy, answers: [{ label: yes.end, danger: true, action: 'confirm-end', press: () => void moderate({ action: 'end' }) }] });
}

export function muteAll(): void {
  const { muteAll: title, muteAllWhy, yes } = words.ask;
  ask({ title, why: muteAllWhy, answers: [{ label: yes.muteAll, action: 'confirm-mute-all', press: () => void moderate({ action: 'mute-all' }) }] });
}

/** Begins: goes back to the call if this tab was in one, and opens the devices. */
export function begin(makers: Makers): void {
  ({ media, createRoom } = makers);
  let { faults } = media.state;
  media.subscribe(() => {
    const before = faults;
    ({ faults } = media.state);
    if (faults !== before) tellFaults(before, faults);
  });
  addEventListener('beforeunload', (event) => { if (page.state.view === 'call' && page.state.draft.trim()) event.preventDefault(); });
  rejoin();
  if (page.state.view === 'lobby') {
    prepared = makeRoom(page.state.sessionId, page.state.userName);
    prepared.prepare();
  }
  if (permissionsOf(page.state.room).publish.length) void media.start();
}
