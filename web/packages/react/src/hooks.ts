'use client';

import { useEffect, useRef } from 'react';
import type {
  ChatMessage, Device, DeviceKind, MediaState, Participant, Quality, RemoteTrack, RoomEvents, RoomState, Source, Waiting,
} from '@lyceum/client';
import { useMedia, useRoom } from './room.tsx';
import { useStore } from './store.ts';

/** What `select` makes of the call's state. The component renders again only when that changes. */
export const useRoomState = <S>(select: (state: RoomState) => S): S => useStore(useRoom(), select);

const all = (state: MediaState): MediaState => state;

/** What this person's devices give, or what `select` makes of it. */
export function useLocalMedia(): MediaState;
export function useLocalMedia<S>(select: (state: MediaState) => S): S;
export function useLocalMedia(select: (state: MediaState) => unknown = all): unknown {
  return useStore(useMedia(), select);
}

/** Everybody in the call, oneself among them, in order of arrival. */
export const useParticipants = (): readonly Participant[] => useRoomState((state) => state.participants);

/** Somebody; by default oneself. `undefined` when not in the call. */
export const useParticipant = (id?: string): Participant | undefined =>
  useRoomState((state) => state.participants.find((one) => one.participantId === (id ?? state.ownId)));

export interface TrackFilter {
  participantId?: string;
  source?: Source;
  kind?: 'audio' | 'video';
}

/** What others send, or that part of it which fits all that the filter names. */
export const useTracks = ({ participantId, source, kind }: TrackFilter = {}): readonly RemoteTrack[] =>
  useRoomState((state) => state.tracks.filter((one) => (participantId === undefined || one.participantId === participantId)
    && (source === undefined || one.source === source) && (kind === undefined || one.track.kind === kind)));

/** `participantId`s of those who speak, loudest first. */
export const useActiveSpeakers = (): readonly string[] => useRoomState((state) => state.speakers);

/** How good somebody's connection is, by default one's own; `undefined`: excellent. */
export const useConnectionQuality = (id?: string): Quality | undefined => useRoomState((state) => state.qualities.get(id ?? state.ownId));

export interface Devices {
  devices: readonly Device[];
  /** An id; empty: the browser's own choice. */
  chosen: string;
  choose(id: string): Promise<void>;
}

/** What can be chosen of one kind. */
export function useDevices(kind: DeviceKind): Devices {
  const media = useMedia();
  return {
    devices: useLocalMedia((state) => state.devices[kind]),
    chosen: useLocalMedia((state) => state.chosen[kind]),
    choose: (id) => media.choose(kind, id),
  };
}

export interface Chat {
  messages: readonly ChatMessage[];
  /** Whether this person may write. */
  allowed: boolean;
  /** Resolves to the code of the refusal, or to an empty string. */
  say(message: string): Promise<string>;
}

export function useChat(): Chat {
  const room = useRoom();
  return {
    messages: useRoomState((state) => state.messages),
    allowed: useRoomState((state) => state.permissions.chat),
    say: (message) => room.say(message),
  };
}

export interface Hands {
  /** `participantId`s, first raised first. */
  hands: readonly string[];
  /** Whether one's own is up. */
  raised: boolean;
  raise(raised: boolean): Promise<string>;
}

export function useHands(): Hands {
  const room = useRoom();
  return {
    hands: useRoomState((state) => state.hands),
    raised: useRoomState((state) => state.hands.includes(state.ownId)),
    raise: (raised) => room.raiseHand(raised),
  };
}

export interface WaitingRoom {
  waiting: readonly Waiting[];
  /** Lets in one who waits, by `waitingId`, or all. */
  admit(waitingId?: string): Promise<string>;
}

export function useWaiting(): WaitingRoom {
  const room = useRoom();
  return {
    waiting: useRoomState((state) => state.waiting),
    admit: (participantId) => room.moderate(participantId === undefined ? { action: 'admit' } : { action: 'admit', participantId }),
  };
}

/** Hears an event of the call while the component is shown; `listener` may be another function each time. */
export function useRoomEvent<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): void {
  const room = useRoom();
  const latest = useRef(listener);
  useEffect(() => { latest.current = listener; });
  useEffect(() => room.on(event, ((what: never) => (latest.current as (what: never) => void)(what)) as RoomEvents[E]), [room, event]);
}
