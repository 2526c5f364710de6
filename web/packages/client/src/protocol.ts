// The words of the wire, as docs/protocol.md has them. What the server says is generated: wire.ts.

import type { ChatMessage as ToldMessage, ServerEvents, TrackLine } from './wire.ts';

export type { Joined, LayersWanted, Moderated, Participant, Permissions, Quality, Role, RosterTrack, Source } from './wire.ts';

/** What somebody said in this session; `clientId` is the sender's own name for it. */
export interface ChatMessage extends Omit<ToldMessage, 'sessionId'> {}

/** What hears the server's events. */
export type Listeners = { [E in keyof ServerEvents]: (body: ServerEvents[E]) => void };

/** Which track a m-line carries: in each offer and answer, both ways. */
export interface TrackHint extends Pick<TrackLine, 'mid' | 'source'>, Partial<Omit<TrackLine, 'mid' | 'source'>> {
  muted?: boolean;
}

/** A code may be newer than this package, or its own. */
export interface Refusal {
  code: string;
  message?: string;
}

export type Ack<T = object> = ({ ok: true } & T) | { ok: false; error: Refusal };

/** What is wanted of somebody's video: device pixels of its tile, none while it is not seen, and how much it matters, 0…255 (128). */
export interface Wish {
  width: number;
  height: number;
  priority?: number;
}

export interface Description {
  offer?: RTCSessionDescriptionInit;
  answer?: RTCSessionDescriptionInit;
  tracks?: TrackHint[];
}
