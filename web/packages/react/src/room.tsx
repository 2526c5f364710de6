'use client';

// The call that the components below hold, and whose devices.

import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from 'react';
import { createLocalMedia, createRoom, type LocalMedia, type Room, type RoomOptions } from '@lyceum/client';

interface Held {
  room: Room;
  media: LocalMedia | null;
}

/** `null` outside of every `RoomProvider`. */
export const Call = createContext<Held | null>(null);

interface Given {
  room: Room;
  /** This person's devices: the same that the room was made with. */
  media?: LocalMedia;
  options?: never;
}

interface Made {
  /** Of the call that this component makes, ends and, if they have no `media`, gives devices. Read once: a `key` makes another call. */
  options: RoomOptions;
  room?: never;
  media?: never;
}

export type RoomProviderProps = (Given | Made) & {
  /** Whether this component holds the call: joins when it is shown, and leaves when it is gone. Otherwise whoever calls `room.join()` does. */
  join?: boolean;
  children?: ReactNode;
};

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

/** A room does nothing before it is joined, and devices nothing before they are used: making them in vain costs nothing. */
function make(options: RoomOptions): Held {
  const media = options.media ?? createLocalMedia();
  return { room: createRoom({ ...options, media }), media };
}

/** Gives a call to the components inside. */
export function RoomProvider({ room, media, options, join = false, children }: RoomProviderProps) {
  const [made] = useState(() => (options ? make(options) : null));
  const held = useMemo(() => made ?? { room: room as Room, media: media ?? null }, [made, room, media]);
  useEffect(() => {
    if (!made) return;
    return hold(made, () => {}, () => {
      made.room.leave();
      if (!options?.media) made.media?.close();
    });
  }, [made]);
  useEffect(() => {
    if (!join) return;
    return hold(held.room, () => held.room.join(), () => held.room.leave());
  }, [held.room, join]);
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
