'use client';

// The call that the components below hold, and whose devices.

import { createContext, useContext, useEffect, useMemo, type ReactNode } from 'react';
import type { LocalMedia, Room } from '@lyceum/client';

interface Held {
  room: Room;
  media: LocalMedia | null;
}

/** `null` outside of every `RoomProvider`. */
export const Call = createContext<Held | null>(null);

export interface RoomProviderProps {
  room: Room;
  /** This person's devices: the same that the room was made with. */
  media?: LocalMedia;
  /** Whether this component holds the call: joins when it is shown, and leaves when it is gone. Otherwise whoever calls `room.join()` does. */
  join?: boolean;
  children?: ReactNode;
}

const endings = new WeakMap<object, ReturnType<typeof setTimeout>>();

/**
 * Begins something and gives what ends it, for an effect. StrictMode takes each effect back and does it again at once: it ends only when
 * nobody has begun it again by the next task.
 */
export function hold(what: object, begin: () => void, end: () => void): () => void {
  const ending = endings.get(what);
  clearTimeout(ending);
  endings.delete(what);
  if (ending === undefined) begin();
  return () => {
    endings.set(what, setTimeout(() => {
      endings.delete(what);
      end();
    }));
  };
}

/** Gives a call to the components inside. */
export function RoomProvider({ room, media, join = false, children }: RoomProviderProps) {
  const held = useMemo(() => ({ room, media: media ?? null }), [room, media]);
  useEffect(() => (join ? hold(room, () => room.join(), () => room.leave()) : undefined), [room, join]);
  return <Call.Provider value={held}>{children}</Call.Provider>;
}

function useHeld(): Held {
  const held = useContext(Call);
  if (!held) throw new Error('There is no <RoomProvider> around this component.');
  return held;
}

/** The call, to act on. It stays the same while the call goes on; see `useRoomState` for what changes. */
export const useRoom = (): Room => useHeld().room;

/** This person's devices, to act on; see `useLocalMedia` for what changes. */
export function useMedia(): LocalMedia {
  const { media } = useHeld();
  if (!media) throw new Error('The <RoomProvider> around this component has no `media`.');
  return media;
}
