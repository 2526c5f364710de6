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

const WORDS: Record<string, string> = {
  'auth/missing': 'This call needs an invitation. Open it from the link that you were given.',
  'auth/expired': 'Your invitation has expired. Go back to where you found its link and open the call from there again.',
  'auth/invalid': 'This invitation is not valid here. Ask for a new link.',
  'auth/revoked': 'You were removed from this call, or your invitation was withdrawn. If that was a mistake, ask your instructor.',
  'session/not_joined': 'The call does not know you any more. Join again.',
  'session/full': 'This call is full.',
  'session/locked': 'This call is locked. Ask the host to let you in.',
  'session/ended': 'This call has ended.',
  'session/replaced': 'You joined this call in another tab or on another device.',
  'session/forbidden': 'The rules of this call do not allow you that. Ask your instructor.',
  'join/forbidden': 'You were not let into this call. Ask your instructor.', // minted by this page
  'session/unknown_target': 'That person is not in the call any more.',
  'media/new_peer_required': 'Your media connection had to be set up again.',
  'media/invalid_sdp': 'Your browser and the server could not agree on how to send media.',
  'media/not_permitted': 'You may not share this here.',
  'rate/limited': 'That was too fast. Wait a moment and try again.',
  'request/invalid': 'The server did not understand that. Reload the page.',
  'server/draining': 'The server is about to restart. You will be brought back.',
  'server/overloaded': 'The server is very busy. Trying again…',
  'server/unreachable': 'The server cannot be reached. Trying again…', // minted by this page
  'relay/none': 'Only relayed media was asked for, but the server names no such TURN server.', // minted by this page
  internal: 'Something went wrong on the server. Try again.',
};

/** What a code means to a person; a code that is newer than this page is shown as it is. */
export function wordsFor(code: string): string {
  return WORDS[code] ?? `The call ended (${code}).`;
}

/** Codes after which trying the same again a little later may succeed. */
export const PASSING = new Set(['rate/limited', 'server/draining', 'server/overloaded', 'internal']);

export const isCode = (text: string): boolean => text in WORDS || /^[a-z]+\/[a-z_]+$/.test(text);
