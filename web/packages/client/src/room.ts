// A call as one state that changes: joins, follows this person's devices, and keeps what the server says.

import type { CallStats, JoinAs, Moderation, Room, RoomEvents, RoomOptions, RoomState, Seat } from './api.ts';
import { Call, type CallEvents, type CallOptions, type Ground } from './call.ts';
import type { Moderated, Permissions, Wish } from './protocol.ts';
import { Publisher } from './publisher.ts';
import { beginning, ended, sameIds, sameTracks, withHand, withMember, withMessages, withRoster, withRules, withoutKeys } from './snapshot.ts';
import { Box, Emitter } from './store.ts';
import { claimsOf, permissionsOf, randomId, type Claims } from './token.ts';

/** Makes a call, and touches nothing of the browser before `join`. */
export function createRoom(options: RoomOptions): Room {
  return new LiveRoom(options);
}

const LISTENED = ['data', 'data-lossy'];

export class LiveRoom extends Box<RoomState> implements Room {
  private readonly events = new Emitter<RoomEvents>();
  private readonly channels: Set<string>;
  private userId: string;
  private readonly claims: Claims;
  private token: string;
  private seat: Seat | undefined;
  private audioOnly = false;
  private call: Call | null = null;
  private prepared: Call | null = null; // connected, and not asked to join yet
  private publisher: Publisher | null = null;
  private unwatch = (): void => {};

  private readonly options: RoomOptions;

  constructor(options: RoomOptions, private readonly ground?: Ground) {
    const token = typeof options.token === 'string' ? options.token : '';
    const claims = claimsOf(token);
    super(beginning(options.sessionId, ...standing(options, claims)));
    this.options = { ...options };
    this.claims = claims;
    this.token = token;
    this.seat = options.seat;
    this.channels = new Set(options.channels);
    this.userId = options.userId ?? claims.sub ?? '';
  }

  on<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): () => void {
    if (event === 'data') LISTENED.forEach((label) => this.openChannel(label));
    return this.events.on(event, listener);
  }

  prepare(): void {
    if (this.call || (typeof RTCPeerConnection === 'undefined' && !this.ground)) return;
    this.prepared ??= this.newCall();
    this.prepared.prepare();
  }

  join(as: JoinAs = {}): void {
    if (this.call) return;
    Object.assign(this.options, as);
    const [role, permissions] = standing(this.options, this.claims);
    this.set({ ...beginning(this.options.sessionId, role, permissions), status: 'connecting' });
    if (typeof RTCPeerConnection === 'undefined' && !this.ground) return this.set({ status: 'ended', reason: 'browser/unsupported' });
    const call = this.call = this.prepared ?? this.newCall();
    this.prepared = null;
    Object.assign(call.options, this.callOptions()); // what is prepared may have been asked for by another name
    this.seat = undefined; // it is taken up once
    if (this.audioOnly) call.setAudioOnly(true);
    this.unwatch = watchPage(this);
    call.start();
  }

  leave(): void {
    (this.call ?? this.prepared)?.leave();
    this.prepared = null;
  }

  abandon(): void {
    this.call?.abandon();
  }

  wake(moved = false): void {
    this.call?.wake(moved);
  }

  say(message: string): Promise<string> {
    return this.ask((call) => call.say(message));
  }

  raiseHand(raised: boolean): Promise<string> {
    return this.ask((call) => call.raiseHand(raised));
  }

  react(emoji: string): Promise<string> {
    return this.ask((call) => call.react(emoji));
  }

  moderate(order: Moderation): Promise<string> {
    return this.ask((call) => call.moderate(order));
  }

  want(trackId: string, wish: Wish): void {
    this.call?.want(trackId, wish);
  }

  unwant(trackId: string): void {
    this.call?.forget(trackId);
  }

  setAudioOnly(on: boolean): void {
    this.audioOnly = on;
    this.call?.setAudioOnly(on);
  }

  send(label: string, data: string | ArrayBuffer, to: readonly string[] = []): void {
    this.channels.add(label);
    const code = !this.call ? 'session/not_joined' : !this.state.permissions.data ? 'session/forbidden' : this.call.send(label, data, to);
    if (code) this.events.emit('refused', code);
  }

  async stats(): Promise<CallStats> {
    return (await this.call?.stats()) ?? { rttMs: 0, path: '', tracks: [] };
  }

  /** One that is not joined yet, and carries what this person's devices give. */
  private newCall(): Call {
    const { media } = this.options;
    // What the last call ended with may be less, and would close devices before the server has said what holds now.
    const [, permissions] = standing(this.options, this.claims);
    const call = new Call(this.callOptions(), this.callEvents(), this.ground);
    this.channels.forEach((label) => call.openChannel(label));
    this.publisher = media ? new Publisher(call, media, permissions) : null;
    return call;
  }

  private openChannel(label: string): void {
    this.channels.add(label);
    (this.call ?? this.prepared)?.openChannel(label);
  }

  private async ask(action: (call: Call) => Promise<string>): Promise<string> {
    return this.call ? action(this.call) : 'session/not_joined';
  }

  private callOptions(): CallOptions {
    const { options, claims, seat } = this;
    const userId = this.userId ||= `user-${randomId()}`;
    return {
      sessionId: options.sessionId,
      userId,
      userName: options.userName ?? claims.name ?? userId,
      isInstructor: options.isInstructor ?? false,
      ...(options.url !== undefined && { url: options.url }),
      ...(options.token !== undefined && { token: () => this.freshToken() }),
      ...(options.relay !== undefined && { relay: options.relay }),
      ...(seat && { resumeToken: seat.resumeToken, stale: seat.origin }),
    };
  }

  /**
   * Whoever gives tokens may be away for a while: then the last one serves, with which a seat is taken up again even if it has ended.
   * Rejects where there was none yet.
   */
  private async freshToken(): Promise<string> {
    const { token } = this.options;
    if (typeof token !== 'function') return this.token;
    try {
      this.token = await token();
    } catch (error) {
      console.warn('no fresh join token', error);
      if (!this.token) throw error;
    }
    return this.token;
  }

  private callEvents(): CallEvents {
    const { events } = this;
    let seat: Seat = { resumeToken: '', origin: this.seat?.origin ?? '' };
    const tellSeat = (parts: Partial<Seat>): void => {
      seat = { ...seat, ...parts };
      if (seat.resumeToken) events.emit('seat', seat);
    };
    return {
      status: (status, code = '') => (status === 'ended' ? this.end(code) : this.set({ status, reason: code })),
      waiting: () => this.set({ status: 'waiting', reason: '' }),
      joined: ({ sessionId, meetingId, participantId, resumeToken, resumed, locked, metadata = null, chat }) => {
        // What is paused and how good connections are is told again after each join.
        this.set({
          sessionId, meetingId, metadata, ownId: participantId,
          rules: withRules(this.state.rules, locked === undefined ? {} : { locked }),
          messages: withMessages(this.state.messages, chat ?? []),
          paused: new Set(), qualities: new Map(),
          unavailable: resumed ? this.state.unavailable : new Map(),
        });
        tellSeat({ resumeToken });
      },
      origin: (origin) => { if (origin !== seat.origin) tellSeat({ origin }); },
      token: (token) => {
        this.token = token;
        events.emit('token', token);
      },
      permissions: (permissions, role) => this.permit(permissions, role),
      moderated: (what) => this.moderated(what),
      roster: (participants) => this.set(withRoster(this.state, participants)),
      tracks: (tracks) => {
        const come = new Set(tracks.map((one) => one.trackId));
        this.set({ tracks: sameTracks(this.state.tracks, tracks), unavailable: withoutKeys(this.state.unavailable, come) });
      },
      chat: (message) => this.set({ messages: withMessages(this.state.messages, [message]) }),
      speakers: (ids) => this.set({ speakers: sameIds(this.state.speakers, ids) }),
      paused: (trackId, is) => this.set({ paused: withMember(this.state.paused, trackId, is) }),
      unavailable: (trackId, reason) => this.set({ unavailable: new Map(this.state.unavailable).set(trackId, reason) }),
      quality: (one) => this.set({ qualities: new Map(this.state.qualities).set(one.participantId, one) }),
      relayed: (relayed) => this.set({ relayed }),
      lobby: (waiting) => this.set({ waiting }),
      hand: (participantId, raised, position) => this.set({ hands: withHand(this.state.hands, participantId, raised, position) }),
      rules: (said, metadata = null) => this.set({ rules: withRules(this.state.rules, said), metadata }),
      reaction: (what) => events.emit('reaction', what),
      data: (label, from, data) => events.emit('data', { label, from, data }),
      draining: (deadline) => events.emit('draining', deadline),
      refused: (code) => events.emit('refused', code),
    };
  }

  private permit(permissions: Permissions, role: string): void {
    this.set({ permissions, role, waiting: permissions.moderate ? this.state.waiting : [] });
    this.publisher?.permit(permissions);
  }

  private moderated(what: Moderated): void {
    if (what.action === 'mute' || what.action === 'mute-all') this.publisher?.mute(what.source);
    this.events.emit('moderated', what);
  }

  private end(reason: string): void {
    this.call = null;
    this.unwatch();
    this.publisher?.close();
    this.publisher = null;
    void this.options.media?.setScreen(false);
    this.set(ended(reason));
  }
}

/** As whom one comes in, until the server says. */
function standing({ isInstructor, token }: RoomOptions, claims: Claims): [role: string, permissions: Permissions] {
  const said = typeof token === 'string' ? token : '';
  const role = claims.role ?? (isInstructor && !said ? 'instructor' : 'participant');
  return [role, permissionsOf(role, claims.permissions)];
}

/** The page comes back to light, from the background, from a closed lid; its network is another; or it goes away. */
function watchPage(room: Room): () => void {
  const wake = (): void => { if (document.visibilityState === 'visible') room.wake(); };
  const abandon = (): void => room.abandon();
  const move = (): void => room.wake(true);
  // Phones tell of another network in Chromium; elsewhere the event means only that a rate is estimated anew.
  const { connection } = (globalThis.navigator ?? {}) as Navigator & { connection?: EventTarget & { type?: string } };
  let before = connection?.type;
  const change = (): void => {
    const type = connection?.type;
    if (type !== before && type !== 'none') move();
    before = type;
  };
  connection?.addEventListener('change', change);
  globalThis.addEventListener?.('online', move);
  globalThis.addEventListener?.('pagehide', abandon);
  globalThis.document?.addEventListener('visibilitychange', wake);
  return () => {
    connection?.removeEventListener('change', change);
    globalThis.removeEventListener?.('online', move);
    globalThis.removeEventListener?.('pagehide', abandon);
    globalThis.document?.removeEventListener('visibilitychange', wake);
  };
}
