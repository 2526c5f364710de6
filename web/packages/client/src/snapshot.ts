// How the state of a call changes: from a snapshot and what happened to the next snapshot.

import type { RoomState, SessionRules } from './api.ts';
import type { RemoteTrack } from './peer.ts';
import type { ChatMessage, Participant, Permissions } from './protocol.ts';

/** So many messages are kept; the oldest go. */
export const MESSAGES_MAX = 500;

const RULES: SessionRules = { locked: false, waitingRoom: false, chat: true, video: true, screenShare: true };

/** Nobody and nothing is there. */
const NOTHING = {
  participants: [], tracks: [], speakers: [], paused: new Set<string>(), unavailable: new Map<string, string>(),
  qualities: new Map<string, never>(), hands: [], waiting: [], relayed: '',
} satisfies Partial<RoomState>;

export function beginning(sessionId: string, role: string, permissions: Permissions): RoomState {
  return { status: 'idle', reason: '', sessionId, meetingId: '', ownId: '', role, permissions, rules: RULES, metadata: null, messages: [], ...NOTHING };
}

/** What was said stays readable after the end. */
export const ended = (reason: string): Partial<RoomState> => ({ ...NOTHING, status: 'ended', reason });

export function withRoster(state: RoomState, participants: readonly Participant[]): Partial<RoomState> {
  const here = new Set(participants.map((one) => one.participantId));
  const tracks = new Set(participants.flatMap((one) => one.tracks.map(({ trackId }) => trackId)));
  return {
    participants: likeBefore(state.participants, participants),
    hands: handsIn(state.hands, participants),
    speakers: kept(state.speakers, (id) => here.has(id)),
    paused: keptIn(state.paused, tracks),
    unavailable: keptOf(state.unavailable, tracks),
    qualities: keptOf(state.qualities, here),
  };
}

/** The same entries, and the same list, as far as they say the same as before: nobody has to look at them again. */
export function likeBefore<V extends object>(before: readonly V[], now: readonly V[]): readonly V[] {
  const known = new Map(before.map((one) => [JSON.stringify(one), one]));
  const next = now.map((one) => known.get(JSON.stringify(one)) ?? one);
  return next.length === before.length && next.every((one, at) => one === before[at]) ? before : next;
}

/** The same list where it holds the same. */
export const sameIds = (before: readonly string[], now: readonly string[]): readonly string[] => (before.join() === now.join() ? before : now);

export function sameTracks(before: readonly RemoteTrack[], now: readonly RemoteTrack[]): readonly RemoteTrack[] {
  const next = now.map((one) => before.find((was) => was.track === one.track && was.trackId === one.trackId && was.participantId === one.participantId
    && was.source === one.source && was.mid === one.mid) ?? one);
  return next.length === before.length && next.every((one, at) => one === before[at]) ? before : next;
}

/** Hands that a roster shows, in the order in which they were raised as far as that is known. */
function handsIn(before: readonly string[], participants: readonly Participant[]): readonly string[] {
  const up = participants.filter((one) => one.handRaised).map((one) => one.participantId);
  const still = kept(before, (id) => up.includes(id));
  const more = up.filter((id) => !before.includes(id));
  return more.length ? [...still, ...more] : still;
}

/** `position` counts from 1. */
export function withHand(before: readonly string[], participantId: string, raised: boolean, position: number): readonly string[] {
  const others = before.filter((id) => id !== participantId);
  if (!raised) return others.length === before.length ? before : others;
  const at = Math.max(0, position - 1);
  return [...others.slice(0, at), participantId, ...others.slice(at)];
}

export function withMember(before: ReadonlySet<string>, id: string, is: boolean): ReadonlySet<string> {
  if (before.has(id) === is) return before;
  const next = new Set(before);
  if (is) next.add(id);
  else next.delete(id);
  return next;
}

/** The server tells each message once to each connection, and what was said before with each join. */
export function withMessages(before: readonly ChatMessage[], more: readonly ChatMessage[]): readonly ChatMessage[] {
  const known = new Set(before.map((one) => one.id));
  const fresh = more.filter(({ id }) => !known.has(id) && known.add(id));
  if (!fresh.length) return before;
  const all = [...before, ...fresh];
  if (more.length > 1) all.sort((a, b) => a.timestamp - b.timestamp);
  return all.slice(-MESSAGES_MAX);
}

/** Leaves out tracks that have come after all. */
export const withoutKeys = <V>(before: ReadonlyMap<string, V>, keys: ReadonlySet<string>): ReadonlyMap<string, V> =>
  ([...before.keys()].some((key) => keys.has(key)) ? new Map([...before].filter(([key]) => !keys.has(key))) : before);

/** What a `session-updated` says of the rules; the rest of it is not for people. */
export function withRules(before: SessionRules, said: Partial<SessionRules>): SessionRules {
  const next = { ...before };
  for (const name of Object.keys(RULES) as (keyof SessionRules)[]) {
    if (typeof said[name] === 'boolean') next[name] = said[name];
  }
  return next;
}

/** The same list where all of it stays, so that nobody who looks at it has to look again. */
function kept<V>(list: readonly V[], stays: (one: V) => boolean): readonly V[] {
  return list.every(stays) ? list : list.filter(stays);
}

const keptIn = (set: ReadonlySet<string>, ids: ReadonlySet<string>): ReadonlySet<string> =>
  ([...set].every((id) => ids.has(id)) ? set : new Set([...set].filter((id) => ids.has(id))));

const keptOf = <V>(map: ReadonlyMap<string, V>, ids: ReadonlySet<string>): ReadonlyMap<string, V> =>
  ([...map.keys()].every((id) => ids.has(id)) ? map : new Map([...map].filter(([id]) => ids.has(id))));
