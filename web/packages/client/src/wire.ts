// Generated from signaling/tests/lobby/wire.rs, which holds what the server says to the same table: change it there, and run
// `LYCEUM_WRITE_WIRE=1 cargo test -p lyceum-signaling --test lobby wire`.

/** Where a track comes from. */
export type Source =
  | 'camera'
  | 'microphone'
  | 'screen'
  | 'screen-audio';

/** What somebody is in a session. */
export type Role =
  | 'instructor'
  | 'participant'
  | 'observer';

/** Why somebody is not there any more. */
export type LeaveReason =
  | 'left'
  | 'disconnected'
  | 'replaced'
  | 'removed'
  | 'ended';

/** What becomes of two connections of one user. */
export type SameUser =
  | 'replace'
  | 'reject'
  | 'allow';

/** Why something was refused. More may come. */
export type ErrorCode =
  | 'auth/missing'
  | 'auth/expired'
  | 'auth/invalid'
  | 'auth/revoked'
  | 'session/not_joined'
  | 'session/full'
  | 'session/locked'
  | 'session/ended'
  | 'session/replaced'
  | 'session/forbidden'
  | 'session/not_live'
  | 'session/unknown_target'
  | 'media/new_peer_required'
  | 'media/invalid_sdp'
  | 'media/not_permitted'
  | 'media/unknown_resource'
  | 'media/stale_etag'
  | 'record/unknown'
  | 'store/away'
  | 'rate/limited'
  | 'request/invalid'
  | 'server/draining'
  | 'server/overloaded'
  | 'internal';

/** What somebody publishes. */
export interface RosterTrack {
  trackId: string;
  kind: 'audio' | 'video';
  source: Source;
  muted: boolean;
}

/** A line of the roster. */
export interface Participant {
  participantId: string;
  userId: string;
  userName: string;
  isInstructor: boolean;
  role: Role;
  state: 'connected' | 'reconnecting';
  handRaised: boolean;
  tracks: RosterTrack[];
  metadata?: unknown;
}

/** What one may do in a session. */
export interface Permissions {
  publish: Source[];
  subscribe: boolean;
  chat: boolean;
  data: boolean;
  moderate: boolean;
}

/** What somebody said; `clientId` is the sender's own name for it. */
export interface ChatMessage {
  sessionId: string;
  id: string;
  message: string;
  userId: string;
  userName: string;
  clientId?: string;
  timestamp: number;
}

/** The ack of a join. `metadata` is the session's own; `chat` what was said before. */
export interface Joined {
  sessionId: string;
  meetingId: string;
  userId: string;
  participantId: string;
  role: Role;
  permissions: Permissions;
  participants: Participant[];
  metadata: unknown;
  locked: boolean;
  chat?: ChatMessage[];
  iceServers: RTCIceServer[];
  resumeToken: string;
  resumed: boolean;
}

/** The ack of a chat message. */
export interface Said {
  id: string;
  timestamp: number;
}

/** The ack of a hand: from 1; 0 when it is down. */
export interface HandPosition {
  position: number;
}

/** What an m-line of the server's description carries. */
export interface TrackLine {
  mid: string;
  trackId: string;
  participantId: string;
  source: Source;
}

/** From the SFU; what comes from another user is as that user sent it. */
export interface Offer {
  sessionId: string;
  userId: string;
  targetUserId: string;
  offer: RTCSessionDescriptionInit;
  tracks: TrackLine[];
}

/** The same, the other way. */
export interface Answer {
  sessionId: string;
  userId: string;
  targetUserId: string;
  answer: RTCSessionDescriptionInit;
  tracks: TrackLine[];
}

/** Of another user; the SFU sends none. */
export interface Candidate {
  sessionId: string;
  userId: string;
  targetUserId: string;
  candidate?: RTCIceCandidateInit | null;
}

/** Somebody came. */
export interface UserJoined {
  userId: string;
  userName: string;
  isInstructor: boolean;
  participantId: string;
}

/** Somebody went. */
export interface UserLeft {
  userId: string;
  userName: string;
  participantId: string;
  reason: LeaveReason;
}

/** Everybody, in order of arrival. */
export interface Roster {
  participants: Participant[];
}

/** `level` is 0…127. */
export interface Speaker {
  participantId: string;
  level: number;
}

/** Whom a shared audio stream carries. */
export interface SharedAudio {
  streamId: string;
  participantId: string;
}

/** Who speaks, loudest first. */
export interface ActiveSpeakers {
  speakers: Speaker[];
  audio?: SharedAudio[];
}

/** A track that one gets stands still, or goes on. */
export interface TrackFlow {
  trackId: string;
  reason: 'bandwidth' | 'unsubscribed';
}

/** An encoding of a track. */
export interface Layer {
  rid: string;
  active: boolean;
}

/** Which layers of a published track anybody watches. */
export interface LayersWanted {
  trackId: string;
  layers: Layer[];
}

/** How good somebody's connection is, 0 (lost) to 4, and who is to blame. */
export interface Quality {
  participantId: string;
  score: number;
  cause?: 'uplink' | 'downlink' | 'server' | 'relay';
}

/** A track that one cannot get. */
export interface TrackUnavailable {
  trackId: string;
  reason: 'codec' | 'limit';
}

/** `position` is from 1; 0 when it is down. */
export interface HandRaised {
  participantId: string;
  userId: string;
  raised: boolean;
  position: number;
}

/** Somebody reacts. */
export interface Reaction {
  participantId: string;
  userId: string;
  emoji: string;
}

/** One's own. */
export interface PermissionsChanged {
  participantId: string;
  role: Role;
  permissions: Permissions;
}

/** What a moderator did to this participant; `by` is the moderator's `userId`. */
export interface Moderated {
  action: 'mute' | 'mute-all' | 'ask-unmute' | 'promote' | 'lower-hands';
  participantId?: string;
  source?: Source;
  role?: Role;
  by?: string;
}

/** Somebody who waits to be admitted. */
export interface WaitingLine {
  waitingId: string;
  userId: string;
  userName: string;
}

/** To whoever waits its `position`, to moderators all `participants`. */
export interface Waiting {
  sessionId?: string;
  position?: number;
  participants?: WaitingLine[];
}

/** Behind the ack of the join that waited. */
export interface Admitted {
  sessionId: string;
}

/** A session's rules. */
export interface SessionUpdated {
  sessionId: string;
  locked: boolean;
  metadata: unknown;
  capacity: number;
  sameUser: SameUser;
  graceMs: number | null;
  waitingRoom: boolean;
  chat: boolean;
  chatHistory: boolean;
  video: boolean;
  screenShare: boolean;
  codecs: string[];
}

/** A join token in place of one that ends soon. */
export interface TokenRenewed {
  token: string;
  expiresAt: number;
}

/** The server ends then, at the latest. */
export interface Draining {
  deadline: number;
}

/** A refusal that nobody waits for, or the end. */
export interface SessionError {
  code: ErrorCode;
  message: string;
  event: string;
}

/** Why not: `message` is for people. */
export interface Refusal {
  code: ErrorCode;
  message: string;
}

/** What the server says: each event's payload. */
export interface ServerEvents {
  'user-joined': UserJoined;
  'user-left': UserLeft;
  'participants-update': Roster;
  'participant-updated': Participant;
  'offer': Offer;
  'answer': Answer;
  'ice-candidate': Candidate;
  'chat-message': ChatMessage;
  'active-speakers': ActiveSpeakers;
  'track-paused': TrackFlow;
  'track-resumed': TrackFlow;
  'layers-wanted': LayersWanted;
  'connection-quality': Quality;
  'track-unavailable': TrackUnavailable;
  'hand-raised': HandRaised;
  'reaction': Reaction;
  'permissions': PermissionsChanged;
  'moderated': Moderated;
  'waiting': Waiting;
  'admitted': Admitted;
  'session-updated': SessionUpdated;
  'token': TokenRenewed;
  'server-draining': Draining;
  'session-error': SessionError;
}

/** What clients say: what the ack has beside `ok`. */
export interface Acks {
  'join-session': Joined;
  'leave-session': object;
  'offer': object;
  'answer': object;
  'ice-candidate': object;
  'chat-message': Said;
  'subscription': object;
  'track-update': object;
  'raise-hand': HandPosition;
  'reaction': object;
  'moderate': object;
}
