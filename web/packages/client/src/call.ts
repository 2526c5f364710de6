// A call, free of any framework: joins a session, keeps the seat over reconnects, and carries media, roster and chat.

import { io, type Socket } from 'socket.io-client';
import type { CallStats, Moderation, SessionRules, Waiting } from './api.ts';
import { Channels, type Data } from './channels.ts';
import { LOOK_MS } from './flow.ts';
import { Peer, type PeerEvents, type RemoteTrack } from './peer.ts';
import type {
  Ack, ChatMessage, Description, Joined, Listeners, Moderated, Participant, Permissions, Quality, Refusal, RosterTrack, Source, Wish,
} from './protocol.ts';
import { serversFor, type Relay, type Relayed } from './relay.ts';
import { Stats } from './stats.ts';
import { randomId } from './token.ts';
import { Wishes } from './wishes.ts';
import { PASSING, isCode } from './words.ts';

/** What it hears is of these types, what it says of any. */
type Line = Socket<Listeners, Record<string, (...words: any[]) => void>>;

export type Status = 'connecting' | 'joined' | 'reconnecting' | 'ended';

export interface CallOptions {
  /** Where the server is; the page's own origin by default. */
  url?: string;
  /** The join token, asked for with each connection: it may have been renewed. Empty: there is none. Rejects: it is asked for again. */
  token?: () => string | Promise<string>;
  sessionId: string;
  userId: string;
  userName: string;
  isInstructor: boolean;
  /** The seat's token from before a reload of the page. */
  resumeToken?: string;
  /** The SDP origin of the server's end from before a reload. */
  stale?: string;
  /** Only relayed paths, for a test of the network. */
  relay?: Relay;
}

export interface CallEvents {
  status(status: Status, code?: string): void;
  joined(seat: Joined): void;
  /** Nobody was let in yet: somebody who may moderate has to do so. */
  waiting(): void;
  /** A join token in place of one that ends soon. */
  token(token: string): void;
  /** What this person may do, before anything of theirs is sent and when it changes. */
  permissions(permissions: Permissions, role: string): void;
  moderated(what: Moderated): void;
  /** The server's end of the media has this SDP origin: `CallOptions.stale` after a reload. */
  origin(id: string): void;
  roster(participants: Participant[]): void;
  tracks(tracks: RemoteTrack[]): void;
  chat(message: ChatMessage): void;
  speakers(participantIds: string[]): void;
  /** Somebody's picture stands still for want of bandwidth, or goes on. */
  paused(trackId: string, paused: boolean): void;
  quality(quality: Quality): void;
  /** Whether this person's media goes by a TURN server. */
  relayed(how: Relayed): void;
  /** A refusal that does not end the call. */
  refused(code: string): void;
  /** Who waits to be let in, to those who may let them in. */
  lobby(waiting: Waiting[]): void;
  hand(participantId: string, raised: boolean, position: number): void;
  reaction(what: { participantId: string; userId: string; emoji: string }): void;
  rules(rules: Partial<SessionRules>, metadata: unknown): void;
  unavailable(trackId: string, reason: string): void;
  data(label: string, from: string, data: Data): void;
  draining(deadline: number): void;
}

/** What a call stands on; tests put others in their place. */
export interface Ground {
  io(url: string, options: object): Line;
  peer(...args: ConstructorParameters<typeof Peer>): Peer;
}

const BROWSER: Ground = { io, peer: (...args) => new Peer(...args) };

/** After this long without a turn of the timer the machine slept, and its socket is not to be trusted. */
const SLEPT_MS = 15_000;
const WATCH_MS = 3_000;
const JOIN_RETRY_MS = 2_000;
/** Media has stopped: a socket by which nothing comes back so soon, and in two round trips, has gone with the network. */
const DOUBT_MS = 400;
/** The class of one server is not to doubt it in the same moment. */
const DOUBT_SPREAD_MS = 200;
/** So long after a socket was given up for silence none is for it again; twice as long after each, up to the most. */
const [CALM_MS, CALM_MS_MAX] = [10_000, 120_000];
/** A new network has its address before it has its routes: so long, and so often, it is tried. */
const HURRY_MS = 3_000;
const HURRY_RETRY_MS = 200;
/** So long an answer may take; what was asked for may have been done all the same. */
const ANSWER_MS = 10_000;

interface Local {
  track: MediaStreamTrack;
  muted: boolean;
  paused: boolean;
}

export class Call {
  private readonly socket: Line;
  private readonly local = new Map<Source, Local>();
  private peer: Peer | null = null;
  private seat: Joined | null = null;
  private resumeToken: string | undefined;
  private participants: Participant[] = [];
  private ended = false;
  private lastError = '';
  private readonly told = new Map<string, boolean>(); // trackId → what the server was last told of its being muted
  private readonly wishes = new Wishes((body, answered) => {
    if (!this.socket.connected || !this.seat) return false;
    this.socket.emit('subscription', body, answered);
    return true;
  });
  private readonly channels = new Channels((label, from, data) => this.events.data(label, from, data));
  private readonly counted = new Stats();
  private stale: string;
  private watch: ReturnType<typeof setInterval> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private renewed = false;
  private asked = false;
  private identified = 0; // how often a connection asked for the token
  private hurriesUntil = 0; // by Date.now()
  private calmUntil = 0; // by Date.now()
  private calmMs = CALM_MS;
  private moved = false; // the network is another, and the paths of media are to be sought anew
  private wanted = false; // the call, and not only a connection that is there when it is
  private prepares = false; // that connection, and an offer of what is published
  /** What was offered with the join, before its answer: on its way, or refused, which may be for no more than a waiting room. */
  private ahead: '' | 'offered' | 'refused' = '';

  constructor(
    readonly options: CallOptions,
    private readonly events: CallEvents,
    private readonly ground: Ground = BROWSER,
  ) {
    this.resumeToken = options.resumeToken;
    this.stale = options.stale ?? '';
    const { token: ask } = options;
    this.socket = ground.io(options.url ?? location.origin, {
      autoConnect: false,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 500,
      reconnectionDelayMax: 3_000,
      ...(ask && { auth: (give: (data: object) => void) => void this.identify(ask, give) }),
    });
    this.listen();
  }

  /** Connects, so that `start` finds a connection, and an offer that is made. What goes wrong is told by `start`, which tries again. */
  prepare(): void {
    this.prepares = true;
    this.socket.connect();
    this.prepareOffer();
  }

  /** Connects and joins. Call it once. */
  start(): void {
    this.wanted = true;
    this.prepares = false;
    this.events.status('connecting');
    if (this.socket.connected) this.join();
    else this.socket.connect();
    let last = Date.now();
    this.watch = setInterval(() => {
      if (Date.now() - last > SLEPT_MS) this.reopen(true);
      last = Date.now();
    }, WATCH_MS);
  }

  /** Leaves at once. */
  leave(): void {
    if (this.ended) return;
    if (this.wanted) this.socket.emit('leave-session', { sessionId: this.options.sessionId });
    this.end();
  }

  /** The page goes away. The others see at once that this picture has ended; a reload takes the seat up again, else its grace time ends it. */
  abandon(): void {
    this.closePeer(); // should the page live on after all, it goes on as after a reload
    this.socket.io.engine?.close();
  }

  /** Tries to reconnect now, rather than when the next attempt is due. `moved`: the network is another, for certain. */
  wake(moved = false): void {
    if (moved) this.hurriesUntil = Date.now() + HURRY_MS;
    this.reopen(moved);
  }

  /** `moved`: the socket and the paths of media went with the old network. */
  private reopen(moved = false): void {
    if (this.ended) return;
    this.moved ||= moved;
    if (moved) this.socket.io.engine?.close();
    if (this.socket.connected) return;
    clearTimeout(this.retry); // this is it
    this.socket.disconnect().connect();
  }

  /** Publishes a track for a source, or changes it. */
  publish(source: Source, track: MediaStreamTrack, muted = false): void {
    const wasMuted = this.local.get(source)?.muted ?? muted;
    this.local.set(source, { track, muted, paused: false });
    if (this.prepares) return this.prepareOffer();
    this.peer?.publish(source, track, muted);
    if (wasMuted !== muted) this.tellMuted(source, muted);
  }

  /** Stops sending a source that will be wanted again, such as a camera that is switched off. */
  pause(source: Source): void {
    const local = this.local.get(source);
    if (!local) return;
    if (this.prepares) return this.unpublish(source);
    Object.assign(local, { muted: true, paused: true });
    this.peer?.pause(source);
    this.tellMuted(source, true);
  }

  setMuted(source: Source, muted: boolean): void {
    const local = this.local.get(source);
    if (!local) return;
    local.muted = muted;
    local.track.enabled = !muted;
    this.peer?.setMuted(source, muted);
    this.tellMuted(source, muted);
  }

  unpublish(source: Source): void {
    const trackId = this.ownTracks().find((track) => track.source === source)?.trackId;
    if (trackId) this.told.delete(trackId);
    if (!this.local.delete(source)) return;
    if (this.prepares) return this.prepareOffer();
    this.peer?.unpublish(source);
  }

  /** Says how large somebody's video is shown, so that no more of it is sent than can be seen. */
  want(trackId: string, wish: Wish): void {
    this.wishes.want(trackId, wish);
  }

  /** Nobody shows this track any more on this page. */
  forget(trackId: string): void {
    this.wishes.unwant(trackId);
  }

  setAudioOnly(on: boolean): void {
    this.wishes.setAudioOnly(on);
  }

  /** Each resolves to the code of its refusal, or to an empty string. */
  say(message: string): Promise<string> {
    const { sessionId, userId, userName } = this.options;
    return this.request('chat-message', { sessionId, message, userId, userName, clientId: randomId() });
  }

  raiseHand(raised: boolean): Promise<string> {
    return this.request('raise-hand', { raised });
  }

  react(emoji: string): Promise<string> {
    return this.request('reaction', { emoji });
  }

  moderate(order: Moderation): Promise<string> {
    return this.request('moderate', order);
  }

  /** Listens to data of this label. */
  openChannel(label: string): void {
    this.channels.open(label);
    if (this.prepares) this.prepareOffer();
  }

  send(label: string, data: Data, to: readonly string[]): string {
    return this.channels.send(label, data, to);
  }

  async stats(): Promise<CallStats> {
    const reports = (await this.peer?.connection.getStats()) ?? new Map<string, unknown>();
    const own = this.ownTracks();
    const sent = (this.peer?.sent ?? []).map((one) => ({ ...one, trackId: own.find(({ source }) => source === one.source)?.trackId ?? '' }));
    return this.counted.of(reports as ReadonlyMap<string, unknown>, this.peer?.received ?? [], sent, this.seat?.participantId ?? '');
  }

  private listen(): void {
    const { socket } = this;
    socket.on('connect', () => { if (this.wanted) this.join(); });
    socket.on('connect_error', (error: Error) => {
      if (!this.wanted) return void socket.disconnect();
      if (isCode(error.message) && !PASSING.has(error.message)) return this.end(error.message);
      this.events.status(this.seat ? 'reconnecting' : 'connecting', isCode(error.message) ? error.message : 'server/unreachable');
      if (!isCode(error.message) && Date.now() < this.hurriesUntil) this.later(() => this.reopen(), HURRY_RETRY_MS);
      else if (!socket.active) this.later(() => socket.connect());
    });
    socket.on('disconnect', (reason) => {
      if (this.ended) return;
      if (!this.wanted) return void socket.disconnect();
      if (this.ahead) this.dropAhead();
      if (reason === 'io server disconnect') {
        // A socket that was not in the call yet may be put out with no word why: the next is told when it connects.
        if (this.seat || this.lastError || this.asked) return this.end(this.lastError || 'session/ended');
        this.asked = true;
        return this.later(() => this.socket.connect());
      }
      this.events.status(this.seat ? 'reconnecting' : 'connecting');
    });
    socket.on('session-error', (error) => { if (this.wanted) this.refused(error, error.event); });
    socket.on('offer', (body: Description) => this.peer?.take(body));
    socket.on('answer', (body: Description) => this.peer?.take(body));
    socket.on('ice-candidate', ({ candidate }) => this.peer?.takeCandidate(candidate ?? null));
    socket.on('participants-update', (body) => this.setRoster(body.participants));
    socket.on('participant-updated', (body: Participant & { participant?: Participant }) => {
      const changed = body.participant ?? body;
      const others = this.participants.filter((one) => one.participantId !== changed.participantId);
      this.setRoster(others.length < this.participants.length
        ? this.participants.map((one) => (one.participantId === changed.participantId ? changed : one))
        : [...others, changed]); // the whole roster of a large session is told seldom
    });
    socket.on('user-left', (body) => this.setRoster(this.participants.filter((one) => one.participantId !== body.participantId)));
    socket.on('chat-message', (message) => this.events.chat(message));
    socket.on('active-speakers', (body) => this.events.speakers(body.speakers.map((one) => one.participantId)));
    socket.on('track-paused', (body) => this.events.paused(body.trackId, body.reason === 'bandwidth'));
    socket.on('track-resumed', (body) => this.events.paused(body.trackId, false));
    socket.on('layers-wanted', (body) => {
      const source = this.ownTracks().find((track) => track.trackId === body.trackId)?.source;
      if (source) this.peer?.setLayers(source, body.layers);
    });
    socket.on('connection-quality', (body) => this.events.quality(body));
    socket.on('token', (body) => this.events.token(body.token));
    socket.on('permissions', (body) => this.events.permissions(body.permissions, body.role));
    socket.on('moderated', (body) => this.events.moderated(body));
    // With a position it is for who waits; moderators are told who does.
    socket.on('waiting', (body: { position?: number; participants?: Waiting[] }) => {
      if (body.position !== undefined) this.events.waiting();
      else this.events.lobby(body.participants ?? []);
    });
    socket.on('hand-raised', ({ participantId, raised, position }) => {
      this.events.hand(participantId, raised, position);
      this.setRoster(this.participants.map((one) => (one.participantId === participantId ? { ...one, handRaised: raised } : one)));
    });
    socket.on('reaction', (body) => this.events.reaction(body));
    socket.on('session-updated', (body) => this.events.rules(body, body.metadata));
    socket.on('track-unavailable', (body) => this.events.unavailable(body.trackId, body.reason));
    socket.on('server-draining', ({ deadline }) => this.events.draining(deadline));
  }

  /** Without the token that there should be the server would refuse for ever: the connection is made later. */
  private async identify(ask: () => string | Promise<string>, give: (data: object) => void): Promise<void> {
    const time = ++this.identified;
    const token = await Promise.resolve().then(ask).catch(() => null);
    if (this.ended || time !== this.identified) return; // the next connection asks for itself
    if (token !== null) return give(token ? { token } : {});
    this.socket.disconnect();
    if (!this.wanted) return;
    this.events.status(this.seat ? 'reconnecting' : 'connecting', 'server/unreachable');
    this.later(() => this.socket.connect());
  }

  /** The ack has no deadline: in a waiting room it comes when somebody lets this person in. */
  private join(): void {
    const { sessionId, userId, userName, isInstructor } = this.options;
    const body = { sessionId, userId, userName, isInstructor, media: 'sfu', autoSubscribe: true, resumeToken: this.resumeToken };
    this.socket.emit('join-session', body, (ack: Ack<Joined>) => {
      if (this.ended) return;
      if (ack.ok) return this.joined(ack);
      this.dropAhead();
      if (!PASSING.has(ack.error.code)) return this.end(ack.error.code === 'session/forbidden' ? 'join/forbidden' : ack.error.code);
      this.events.status(this.seat ? 'reconnecting' : 'connecting', ack.error.code);
      this.events.refused(ack.error.code);
      this.later(() => this.socket.connected && this.join());
    });
    if (this.mayOfferAhead) this.offerAhead();
  }

  private get mayOfferAhead(): boolean {
    return !this.seat && !this.resumeToken && !this.options.relay && this.local.size > 0;
  }

  /** Anew, when something else is published: so it is there when the join goes out. */
  private prepareOffer(): void {
    this.closePeer();
    if (this.mayOfferAhead) this.makePeer([], '').prepareOffer();
  }

  /** The offer goes with the join, as long as nothing depends on what is answered: that saves a round trip. */
  private offerAhead(): void {
    this.dropAhead();
    this.ahead = 'offered';
    (this.peer ?? this.makePeer([], '')).offerAhead();
  }

  private dropAhead(): void {
    if (!this.ahead) return;
    this.ahead = '';
    this.closePeer();
  }

  private closePeer(): void {
    this.peer?.close();
    this.peer = null;
    this.channels.attach(null);
  }

  private joined(seat: Joined): void {
    this.events.permissions(seat.permissions, seat.role); // what may not be sent is taken back before it is offered
    if (this.peer && this.ahead === 'offered') {
      this.peer.start(seat.iceServers);
    } else if (seat.resumed && this.peer && !this.ahead) {
      this.peer.resume(seat.iceServers, this.moved);
    } else {
      this.openPeer(seat);
    }
    this.ahead = '';
    this.moved = false;
    this.seat = seat;
    this.resumeToken = seat.resumeToken;
    this.events.joined(seat);
    if (!seat.resumed) this.wishes.anew();
    this.setRoster(seat.participants);
    this.events.status('joined');
  }

  /** `renewed`: in place of one that was stuck, which is tried once. */
  private openPeer(seat: Joined, renewed = false): void {
    this.renewed = renewed;
    const { relay = '' } = this.options;
    if (relay && !serversFor(seat.iceServers, relay).length) this.events.refused('relay/none');
    const peer = this.makePeer(seat.iceServers, seat.resumed ? this.stale : '');
    if (seat.resumed && !this.local.size) peer.hello();
  }

  /** A connection that carries what is published, in place of the one that there was. */
  private makePeer(iceServers: RTCIceServer[], stale: string): Peer {
    const { relay = '' } = this.options;
    const to = (): object => ({ sessionId: this.options.sessionId, userId: this.options.userId, targetUserId: 'sfu' });
    this.peer?.close();
    this.events.tracks([]);
    const peer: Peer = this.peer = this.ground.peer(iceServers, {
      send: (event, body) => this.socket.emit(event, { ...to(), ...body }, (ack: Ack) => {
        if (ack.ok || this.peer !== peer) return;
        if (this.ahead) this.ahead = 'refused';
        else this.refused(ack.error, event);
      }),
      sendCandidate: (candidate) => this.socket.emit('ice-candidate', { ...to(), candidate }),
      origin: (id) => {
        this.stale = id;
        this.events.origin(id);
      },
      remoteTracks: (tracks) => this.events.tracks(tracks),
      relayed: (how) => this.events.relayed(how),
      adrift: (rttMs) => this.doubt(peer, { ...to(), candidate: null }, rttMs),
      stuck: () => this.seat && !this.renewed && this.openPeer({ ...this.seat, resumed: false }, true),
    } satisfies PeerEvents, stale, relay);
    this.channels.attach(peer.connection);
    for (const [source, { track, muted, paused }] of this.local) {
      if (paused) this.local.delete(source); // published anew when it is wanted
      else peer.publish(source, track, muted);
    }
    return peer;
  }

  /** Has only the media stopped, or the network gone? The socket is asked by a word that the server acknowledges and else ignores. */
  private doubt(peer: Peer, word: object, rttMs: number): void {
    const { socket, socket: { id } } = this;
    if (!this.seat || this.moved) return; // it is sought anew already
    if (!socket.connected) return this.reopen(true);
    socket.timeout(DOUBT_MS + DOUBT_SPREAD_MS * Math.random() + 2 * rttMs).emit('ice-candidate', word, (lost: Error | null) => {
      if (this.peer !== peer || socket.id !== id) return;
      if (!lost) return peer.mend();
      // Where the page itself stood still, what has come meanwhile is seen only now.
      setTimeout(() => {
        if (this.peer !== peer || socket.id !== id || !peer.isAdrift || Date.now() < this.calmUntil) return;
        this.calmUntil = Date.now() + this.calmMs;
        this.calmMs = Math.min(2 * this.calmMs, CALM_MS_MAX);
        this.reopen(true);
      }, 2 * LOOK_MS);
    });
  }

  private refused(error: Refusal, event?: string): void {
    const { code } = error;
    if (code.startsWith('auth/') || code.startsWith('session/')) this.lastError = code;
    if (code === 'media/new_peer_required' && this.seat) this.openPeer({ ...this.seat, resumed: false });
    else if (code === 'session/not_joined' && this.socket.connected) this.join();
    else if (code === 'session/ended' || code === 'auth/revoked' || code === 'session/replaced') this.end(code);
    else if (event !== 'ice-candidate') this.events.refused(code);
  }

  private setRoster(participants: Participant[]): void {
    this.participants = participants;
    this.events.roster(participants);
    this.wishes.setVideos(new Set(participants
      .filter((one) => one.participantId !== this.seat?.participantId)
      .flatMap((one) => one.tracks.filter(({ kind }) => kind === 'video').map(({ trackId }) => trackId))));
    // What was muted before the server had named the track is told now, once: later a roster may say that a moderator muted it.
    for (const { trackId, source, muted } of this.ownTracks()) {
      const local = this.local.get(source);
      if (!local || this.told.has(trackId)) continue;
      if (local.muted !== muted) this.tellMuted(source, local.muted);
      else this.told.set(trackId, muted);
    }
  }

  private ownTracks(): RosterTrack[] {
    return this.participants.find((one) => one.participantId === this.seat?.participantId)?.tracks ?? [];
  }

  private tellMuted(source: Source, muted: boolean): void {
    const trackId = this.ownTracks().find((track) => track.source === source)?.trackId;
    if (!trackId) return;
    this.told.set(trackId, muted);
    void this.request('track-update', { trackId, muted });
  }

  private request(event: string, body: object): Promise<string> {
    return new Promise((done) => {
      if (this.ended) return done('session/not_joined');
      this.socket.timeout(ANSWER_MS).emit(event, body, (lost: Error | null, ack?: Ack) => {
        const code = lost || !ack ? 'server/unreachable' : ack.ok ? '' : ack.error.code;
        if (code && !lost) this.events.refused(code);
        done(code);
      });
    });
  }

  private later(action: () => void, ms = JOIN_RETRY_MS): void {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => { if (!this.ended) action(); }, ms);
  }

  private end(code?: string): void {
    if (this.ended) return;
    this.ended = true;
    clearInterval(this.watch);
    clearTimeout(this.retry);
    this.wishes.close();
    this.channels.attach(null);
    this.peer?.close(); // who it was is still asked
    this.socket.disconnect();
    this.events.tracks([]);
    this.events.status('ended', code);
  }
}
