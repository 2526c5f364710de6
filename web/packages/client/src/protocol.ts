// The words of the wire, as docs/protocol.md has them.

export type Source = 'camera' | 'microphone' | 'screen' | 'screen-audio';

export interface RosterTrack {
  trackId: string;
  kind: 'audio' | 'video';
  source: Source;
  muted: boolean;
}

export interface Participant {
  participantId: string;
  userId: string;
  userName: string;
  isInstructor: boolean;
  role: string;
  state: 'connected' | 'reconnecting';
  handRaised: boolean;
  tracks: RosterTrack[];
}

/** Which track a m-line carries: in each offer and answer, both ways. */
export interface TrackHint {
  mid: string;
  source: Source;
  trackId?: string;
  participantId?: string;
  muted?: boolean;
}

export interface Refusal {
  code: string;
  message?: string;
}

export type Ack<T = object> = ({ ok: true } & T) | { ok: false; error: Refusal };

/** What one may do in a session. */
export interface Permissions {
  publish: Source[];
  subscribe: boolean;
  chat: boolean;
  data: boolean;
  moderate: boolean;
}

/** What a moderator did to this participant; `by` is the moderator's `userId`. */
export interface Moderated {
  action: string;
  source?: Source;
  role?: string;
  by?: string;
}

export interface Joined {
  sessionId: string;
  meetingId: string;
  userId: string;
  participantId: string;
  role: string;
  permissions: Permissions;
  participants: Participant[];
  iceServers: RTCIceServer[];
  resumeToken: string;
  resumed: boolean;
  locked?: boolean;
  /** What was said before. */
  chat?: ChatMessage[];
}

export interface ChatMessage {
  id: string;
  clientId?: string;
  userId: string;
  userName: string;
  message: string;
  timestamp: number;
}

/** What is wanted of somebody's video: device pixels of its tile, none while it is not seen, and how much it matters, 0…255 (128). */
export interface Wish {
  width: number;
  height: number;
  priority?: number;
}

/** Which layers of a published track anybody watches. */
export interface LayersWanted {
  trackId: string;
  layers: { rid: string; active: boolean }[];
}

/** How good somebody's connection is, 0 (lost) to 4, and who is to blame. */
export interface Quality {
  participantId: string;
  score: number;
  cause?: 'uplink' | 'downlink' | 'server' | 'relay';
}

export interface Description {
  offer?: RTCSessionDescriptionInit;
  answer?: RTCSessionDescriptionInit;
  tracks?: TrackHint[];
}

export { wordsFor } from './words.ts';
