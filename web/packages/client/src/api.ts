// What a call is to those who show it: one state that is replaced when anything changes, and what can be done.

import type { ChatMessage, Moderated, Participant, Permissions, Quality, Source, Wish } from './protocol.ts';
import type { RemoteTrack } from './peer.ts';
import type { Relay, Relayed } from './relay.ts';

/** Something that is looked at and changes: `state` is replaced, never changed, and everything in it is to be read only. */
export interface Store<T> {
  readonly state: T;
  /** Calls `changed` after each change of `state`, until the function that it gives back is called. */
  subscribe(changed: () => void): () => void;
}

export type DeviceKind = 'camera' | 'microphone' | 'speaker';

export interface Device {
  id: string;
  label: string;
}

/** Why a device does not work. The words of `wordsFor` say what to do about it. */
export type DeviceFault = 'device/insecure' | 'device/denied' | 'device/missing' | 'device/busy' | 'device/failed';

/** What this person's devices give. It may live before a call, and over several. */
export interface MediaState {
  /** `null`: off. A microphone that is muted stays, with `microphoneOn` false. */
  camera: MediaStreamTrack | null;
  microphone: MediaStreamTrack | null;
  microphoneOn: boolean;
  screen: MediaStreamTrack | null;
  screenAudio: MediaStreamTrack | null;
  /** What can be chosen from; empty before the person has allowed one device. */
  devices: Record<DeviceKind, readonly Device[]>;
  /** Ids; empty: the browser's own choice. */
  chosen: Record<DeviceKind, string>;
  /** What went wrong last with each, until it works. */
  faults: Partial<Record<'camera' | 'microphone' | 'screen', DeviceFault>>;
}

export interface LocalMedia extends Store<MediaState> {
  /** Turns on microphone and camera, but for what this tab had turned off before it was reloaded. */
  start(): Promise<void>;
  /** Turns a device on or off. Never throws: what went wrong is in `faults`. */
  setMicrophone(on: boolean): Promise<void>;
  setCamera(on: boolean): Promise<void>;
  setScreen(on: boolean): Promise<void>;
  /** Takes another device, at once if the old one is in use, and remembers it. */
  choose(kind: DeviceKind, id: string): Promise<void>;
  /** Loudness of the microphone now, 0…1, also while it is muted: for a meter, and for «you are muted». 0 where there is none. */
  level(): number;
  /** Sends this picture in place of the camera's own, made from it; `null`: the camera's own. */
  setFilter(filter: ((camera: MediaStreamTrack) => MediaStreamTrack) | null): void;
  /** Stops everything, or this one, and closes the device. What is turned on afterwards works again. */
  close(what?: 'camera' | 'microphone' | 'screen'): void;
}

export type Status = 'idle' | 'connecting' | 'waiting' | 'joined' | 'reconnecting' | 'ended';

/** Somebody who waits to be admitted. */
export interface Waiting {
  waitingId: string;
  userId: string;
  userName: string;
}

/** What a session allows and is, as `session-updated` tells it. */
export interface SessionRules {
  locked: boolean;
  waitingRoom: boolean;
  chat: boolean;
  video: boolean;
  screenShare: boolean;
}

export interface RoomState {
  status: Status;
  /** The code of why the call ended, or why it waits to go on; empty: nobody said. `wordsFor` makes a sentence of it. */
  reason: string;
  sessionId: string;
  meetingId: string;
  /** The own `participantId`; empty before the first join. */
  ownId: string;
  role: string;
  permissions: Permissions;
  rules: SessionRules;
  /** What the application says of the session: any JSON. */
  metadata: unknown;
  /** In order of arrival, oneself among them. */
  participants: readonly Participant[];
  tracks: readonly RemoteTrack[];
  /** `participantId`s, loudest first. */
  speakers: readonly string[];
  /** Tracks whose picture stands still because this person's line is too narrow: `trackId`s. */
  paused: ReadonlySet<string>;
  /** Tracks that this browser cannot show: `trackId` → `codec` or `limit`. */
  unavailable: ReadonlyMap<string, string>;
  /** By `participantId`; absent: excellent. */
  qualities: ReadonlyMap<string, Quality>;
  messages: readonly ChatMessage[];
  /** Whose hands are up, first raised first: `participantId`s. */
  hands: readonly string[];
  /** Who waits to be admitted; empty for those who may not moderate. */
  waiting: readonly Waiting[];
  /** By what this person's media reaches a TURN server, if it goes by one. */
  relayed: Relayed;
}

/** What happens once and leaves no state behind. */
export interface RoomEvents {
  /** A refusal that does not end the call. */
  refused(code: string): void;
  moderated(what: Moderated): void;
  reaction(what: { participantId: string; userId: string; emoji: string }): void;
  /** A join token in place of one that ends soon. */
  token(token: string): void;
  /** Data that came on a channel of this label. */
  data(what: { label: string; from: string; data: string | ArrayBuffer }): void;
  /** The seat, to go back to after a reload of the page: `RoomOptions.seat`. */
  seat(seat: Seat): void;
  /** The server restarts; `deadline` is in ms since 1970. */
  draining(deadline: number): void;
}

export interface Seat {
  resumeToken: string;
  /** The SDP origin of the server's end of the media. */
  origin: string;
}

export interface RoomOptions {
  /** Where the server is; the page's own origin by default. */
  url?: string;
  /** The join token, or where to get one: asked for with each connection. None in open mode. */
  token?: string | (() => string | Promise<string>);
  sessionId: string;
  /** Without a token, in open mode: who this is. With one, the token says. */
  userId?: string;
  userName?: string;
  isInstructor?: boolean;
  /** From before a reload of the page. */
  seat?: Seat;
  /** This person's devices. What they give is published while the call goes on; without it nothing is. */
  media?: LocalMedia;
  /** Only relayed paths, for a test of the network. */
  relay?: Relay;
  /** Labels of data channels to open with the call; `data` and `data-lossy` are, as soon as anybody listens to `data`. */
  channels?: readonly string[];
}

/** What `join` may say anew. */
export type JoinAs = Partial<Pick<RoomOptions, 'sessionId' | 'userName'>>;

export type Moderation =
  | { action: 'mute' | 'ask-unmute'; participantId: string; source?: Source }
  | { action: 'mute-all'; source?: Source }
  | { action: 'remove'; participantId: string }
  | { action: 'promote'; participantId: string; role?: string }
  | { action: 'lower-hands' | 'admit'; participantId?: string }
  | { action: 'lock' | 'unlock' | 'end' };

/** Numbers for the stats panel. Rates are of the time since `stats` was called before; the first time they are 0. */
export interface TrackStats {
  trackId: string;
  participantId: string;
  source: Source;
  direction: 'in' | 'out';
  kbps: number;
  /** 0…1 */
  loss: number;
  width?: number;
  height?: number;
  fps?: number;
  codec?: string;
}

export interface CallStats {
  rttMs: number;
  /** `udp`, `tcp`, or `relay (udp)` and the like. */
  path: string;
  tracks: TrackStats[];
}

export interface Room extends Store<RoomState> {
  on<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): () => void;
  /** Connects and does not join: while somebody looks into the mirror, so that `join` takes fewer round trips. */
  prepare(): void;
  /** Connects and joins; again after it has ended, too. What was not known before may be said here. */
  join(as?: JoinAs): void;
  /** Leaves at once. */
  leave(): void;
  /** The page goes away: others see at once that the pictures have ended, and the seat stays for its grace time. */
  abandon(): void;
  /**
   * Tries to reconnect now, rather than when the next attempt is due: the page comes back to light. `moved`: the network is another
   * for certain, so that the socket and the paths of media are sought anew.
   */
  wake(moved?: boolean): void;
  /** Each resolves to the code of its refusal, or to an empty string. */
  say(message: string): Promise<string>;
  raiseHand(raised: boolean): Promise<string>;
  react(emoji: string): Promise<string>;
  moderate(order: Moderation): Promise<string>;
  /** Says how large a track is shown, so that no more of it is sent than can be seen. */
  want(trackId: string, wish: Wish): void;
  /** Nobody shows it on this page any more. */
  unwant(trackId: string): void;
  /** Pictures of others are not sent at all while this is on. */
  setAudioOnly(on: boolean): void;
  /** Sends data to everyone else who has a channel of this label, or to these. */
  send(label: string, data: string | ArrayBuffer, to?: readonly string[]): void;
  stats(): Promise<CallStats>;
}
