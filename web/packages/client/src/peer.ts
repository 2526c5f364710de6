// One RTCPeerConnection to the SFU: perfect negotiation with this side polite, and what it receives.

import { Flow, LOOK_MS } from './flow.ts';
import type { Description, LayersWanted, Source, TrackHint } from './protocol.ts';
import { configuration, relayOf, type Relay, type Relayed } from './relay.ts';

export interface RemoteTrack {
  mid: string;
  trackId: string;
  participantId: string;
  source: Source;
  track: MediaStreamTrack;
}

export interface PeerEvents {
  send(event: 'offer' | 'answer', body: Description): void;
  sendCandidate(candidate: RTCIceCandidate | null): void;
  /** The server's end has this SDP origin. */
  origin(id: string): void;
  remoteTracks(tracks: RemoteTrack[]): void;
  /** How media reaches the server's TURN server, if it goes by that. */
  relayed(how: Relayed): void;
  /** Media comes no more, or its path is said to be broken: perhaps the network is another. `rttMs` is what a round trip took before. */
  adrift(rttMs: number): void;
  /** No offer of this connection will do: another must take its place. */
  stuck(): void;
}

/** Firefox may still change to a better path so long after the first one. */
const SETTLED_MS = 3_000;

interface Published {
  source: Source;
  transceiver: RTCRtpTransceiver;
  muted: boolean;
  /** Which layers anybody watches, as the server said last. */
  layers: LayersWanted['layers'];
  /** When all that was asked of the encodings is done. */
  applied: Promise<void>;
}

/**
 * A camera goes out in three sizes at once, of which the server sends each person the one that fits their tile and their line.
 * Browsers leave the larger ones out when the camera has fewer pixels.
 */
const LAYERS: RTCRtpEncodingParameters[] = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: 'f', maxBitrate: 1_500_000 },
];

/** `<sess-id>` of `o=`: names one RTCPeerConnection. */
const originOf = ({ sdp }: RTCSessionDescriptionInit): string => /^o=\S+ (\d+)/m.exec(sdp ?? '')?.[1] ?? '';

/** The mids of a first offer's audio and video, in the order of the transceivers. */
const midsOf = (sdp: string): string[] =>
  sdp.split(/^m=/m).slice(1).filter((line) => !line.startsWith('application')).map((line) => /^a=mid:(\S+)/m.exec(line)?.[1] ?? '');

export class Peer {
  private readonly pc: RTCPeerConnection;
  private readonly published = new Map<Source, Published>();
  private readonly idle: RTCRtpTransceiver[] = []; // m-lines of ours that carry nothing just now
  private readonly hints = new Map<string, TrackHint>(); // mid → the track it carries to us
  private work: Promise<void> = Promise.resolve(); // descriptions are taken one after the other
  private lastAnswer = '';
  private closed = false;
  private begin = (_iceServers: RTCIceServer[]): void => {}; // ends the wait of `offerAhead`
  private isAhead = false; // an offer is made and not applied yet
  private prepared: Promise<RTCSessionDescriptionInit> | undefined; // that offer
  private made: RTCSessionDescriptionInit | undefined; // the same, as soon as it is there
  private readonly flow = new Flow();
  private heard = 0; // when the last packet came that was played, by the browser's own clock
  private receivedBytes = 0;
  private rttMs = 0;
  private isLooking = false;
  private readonly looking = setInterval(() => void this.listen(), LOOK_MS);

  /**
   * `stale`: the SDP origin of the server's peer that went with the page before a reload. When a page takes up its seat the
   * server may repeat an offer that was meant for that one; offers of any other origin are for us.
   */
  constructor(
    iceServers: RTCIceServer[],
    private readonly events: PeerEvents,
    private readonly stale: string,
    private readonly relay: Relay,
  ) {
    this.pc = new RTCPeerConnection(configuration(iceServers, relay));
    this.pc.onnegotiationneeded = () => void this.offer();
    this.pc.onicecandidate = ({ candidate }) => events.sendCandidate(candidate);
    this.pc.oniceconnectionstatechange = () => {
      const { iceConnectionState: state } = this.pc;
      if (state === 'failed') this.pc.restartIce();
      if (state === 'disconnected') events.adrift(this.rttMs);
      this.look();
      setTimeout(() => this.look(), SETTLED_MS);
    };
  }

  /** Publishes a track, or changes the one published for its source: without renegotiation where there is one already. */
  publish(source: Source, track: MediaStreamTrack, muted: boolean): void {
    const old = this.published.get(source);
    if (old) {
      old.muted = muted;
      void old.transceiver.sender.replaceTrack(track);
    } else {
      const transceiver = source === 'camera' ? this.cameraLine(track) : this.lineFor(track);
      this.published.set(source, { source, muted, layers: [], transceiver, applied: Promise.resolve() });
    }
  }

  /** Stops sending and keeps the m-line, so that going on needs no renegotiation. */
  pause(source: Source): void {
    const old = this.published.get(source);
    if (old) {
      old.muted = true;
      void old.transceiver.sender.replaceTrack(null);
    }
  }

  unpublish(source: Source): void {
    const old = this.published.get(source);
    if (old) {
      this.published.delete(source);
      this.pc.removeTrack(old.transceiver.sender);
      this.idle.push(old.transceiver);
    }
  }

  /** Sends only the layers that anybody watches. */
  setLayers(source: Source, layers: LayersWanted['layers']): void {
    const one = this.published.get(source);
    if (!one) return;
    one.layers = layers;
    this.applyLayers(one);
  }

  setMuted(source: Source, muted: boolean): void {
    const old = this.published.get(source);
    if (old) old.muted = muted;
  }

  /** Opens data channels, and what else needs the connection itself. */
  get connection(): RTCPeerConnection {
    return this.pc;
  }

  /** What is sent now: on which m-line which source. */
  get sent(): { mid: string; source: Source }[] {
    return [...this.published.values()].flatMap(({ transceiver: { mid }, source }) => (mid ? [{ mid, source }] : []));
  }

  /** Offers although there is nothing to send: so a page that was reloaded takes its seat's media over from the old page. */
  hello(): void {
    this.idle.push(this.pc.addTransceiver('audio', { direction: 'inactive' }));
  }

  /** Makes the offer of `offerAhead`. What is published must stay the same until then. */
  prepareOffer(): void {
    this.isAhead = true;
    this.prepared = this.pc.createOffer();
    this.prepared.then((made) => { this.made = made; }, () => {}); // said by `offerAhead`
  }

  /**
   * Offers before the server has said which TURN servers there are, to save a round trip: what is offered is applied, and its
   * candidates are gathered, when `start` says so. Until then what the server says waits.
   */
  offerAhead(): void {
    if (!this.prepared) this.prepareOffer();
    const { prepared } = this;
    const known = new Promise<RTCIceServer[]>((done) => { this.begin = done; });
    const send = ({ type, sdp = '' }: RTCSessionDescriptionInit): void => {
      if (!this.closed) this.events.send('offer', { offer: { type, sdp }, tracks: this.ownHints(midsOf(sdp)) });
    };
    if (this.made) send(this.made);
    else prepared?.then(send, () => {}); // said below
    this.work = known.then(async (iceServers) => {
      if (this.closed) return;
      this.pc.setConfiguration(configuration(iceServers, this.relay));
      await this.pc.setLocalDescription(await prepared);
      this.isAhead = false;
    }).catch((error) => {
      console.warn('offer ahead', error);
      if (!this.closed) this.events.stuck();
    });
  }

  /** The server let this person in, and takes what was offered ahead. */
  start(iceServers: RTCIceServer[]): void {
    this.begin(iceServers);
  }

  /** After the socket came back: an offer of ours that nobody answered may have gone with the old one. `moved`: the network is another. */
  resume(iceServers: RTCIceServer[], moved: boolean): void {
    this.pc.setConfiguration(configuration(iceServers, this.relay)); // before a restart, which is what takes it up
    if (this.pc.signalingState === 'have-local-offer') this.tell();
    if (moved || this.isAdrift) this.pc.restartIce();
  }

  /** Seeks another path if this one is broken; seat, DTLS and tracks stay. */
  mend(): void {
    if (this.isBroken) this.pc.restartIce();
  }

  /** Media has stopped and not begun again, or its path is said to be broken. */
  get isAdrift(): boolean {
    return this.flow.isStill || this.isBroken;
  }

  private get isBroken(): boolean {
    return this.pc.iceConnectionState === 'disconnected' || this.pc.iceConnectionState === 'failed';
  }

  take(body: Description): void {
    this.work = this.work.then(() => this.described(body)).catch((error) => console.warn('negotiation', error));
  }

  /** The SFU's candidates are in its descriptions; one that comes by itself is taken too. */
  takeCandidate(candidate: RTCIceCandidateInit | null): void {
    this.work = this.work.then(() => this.pc.addIceCandidate(candidate ?? undefined)).catch(() => {}); // of an offer that was passed over
  }

  close(): void {
    this.closed = true;
    clearInterval(this.looking);
    this.pc.close();
  }

  private async listen(): Promise<void> {
    if (this.isLooking || this.pc.iceConnectionState === 'new') return;
    this.isLooking = true;
    const came = await this.came().catch(() => true);
    this.isLooking = false;
    if (!this.closed && this.flow.note(came, performance.now())) this.events.adrift(this.rttMs);
  }

  private async came(): Promise<boolean> {
    // This costs next to nothing, and says enough while anything is seen or heard.
    for (const one of this.pc.getReceivers()) {
      for (const { timestamp } of one.getSynchronizationSources()) {
        if (timestamp <= this.heard) continue;
        this.heard = timestamp;
        return true;
      }
    }
    // Whoever only sends gets feedback.
    let bytes = 0;
    for (const one of (await this.pc.getStats()).values()) {
      if (one.type !== 'candidate-pair') continue;
      bytes += one.bytesReceived ?? 0;
      if (one.nominated && one.currentRoundTripTime) this.rttMs = one.currentRoundTripTime * 1_000;
    }
    const has = bytes !== this.receivedBytes;
    this.receivedBytes = bytes;
    return has;
  }

  private look(): void {
    const ice = this.pc.getTransceivers()[0]?.sender.transport?.iceTransport;
    if (ice) ice.onselectedcandidatepairchange = () => this.look();
    if (this.closed) return;
    void this.pc.getStats().then((stats) => {
      const how = relayOf(stats);
      if (how !== undefined && !this.closed) this.events.relayed(how);
    });
  }

  /** One change after another: Chromium refuses one that comes while another is under way, and it would be lost. */
  private applyLayers(one: Published): void {
    one.applied = one.applied
      .then(() => this.changeEncodings(one))
      // The encodings are just being changed by a description, which applies it again.
      .catch((error) => console.warn('layers', error));
  }

  private async changeEncodings({ transceiver: { sender }, layers }: Published): Promise<void> {
    if (!layers.length) return;
    const parameters = sender.getParameters();
    let changed = false;
    for (const encoding of parameters.encodings) {
      const active = layers.find((layer) => layer.rid === encoding.rid)?.active;
      if (active === undefined || encoding.active === active) continue;
      encoding.active = active;
      changed = true;
    }
    if (changed) await sender.setParameters(parameters);
  }

  private cameraLine(track: MediaStreamTrack): RTCRtpTransceiver {
    return this.pc.addTransceiver(track, { direction: 'sendonly', sendEncodings: LAYERS });
  }

  /**
   * An m-line that only sends. `addTrack` would send on an m-line on which somebody else's track comes to us: then one mid would
   * stand for two tracks, and end with either.
   */
  private lineFor(track: MediaStreamTrack): RTCRtpTransceiver {
    const at = this.idle.findIndex((one) => one.currentDirection !== 'stopped' && one.receiver.track.kind === track.kind);
    const [idle] = at < 0 ? [] : this.idle.splice(at, 1);
    if (!idle) return this.pc.addTransceiver(track, { direction: 'sendonly' });
    idle.direction = 'sendonly';
    void idle.sender.replaceTrack(track);
    return idle;
  }

  private async offer(): Promise<void> {
    if (this.isAhead) return; // it is asked for again when what was offered ahead is agreed
    try {
      await this.pc.setLocalDescription();
      this.tell();
    } catch (error) {
      console.warn('offer', error); // rolled back meanwhile by an offer of the server: it is asked for again
      // Chromium keeps the header extension ids of a first offer that was rolled back, and finds that they collide with the
      // server's: it can offer no more, so what is published would never be sent.
      if (error instanceof DOMException && error.name === 'InvalidAccessError' && !this.closed) this.events.stuck();
    }
  }

  private async described({ offer, answer, tracks }: Description): Promise<void> {
    if (this.closed) return;
    if (answer) {
      // One that nobody waits for, or that is repeated, is ignored.
      if (this.pc.signalingState !== 'have-local-offer' || answer.sdp === this.lastAnswer) return;
      await this.pc.setRemoteDescription(answer);
      this.lastAnswer = answer.sdp ?? '';
      if (this.closed) return;
      this.events.origin(originOf(answer));
    } else if (offer) {
      if (this.stale && originOf(offer) === this.stale) return;
      this.events.origin(originOf(offer));
      tracks?.forEach((hint) => this.hints.set(hint.mid, hint));
      await this.pc.setRemoteDescription(offer); // rolls back our own
      await this.pc.setLocalDescription();
      this.tell();
    }
    if (this.closed) return;
    tracks?.forEach((hint) => this.hints.set(hint.mid, hint));
    this.published.forEach((one) => this.applyLayers(one)); // Chromium turns all of them on with each description
    this.events.remoteTracks(this.received);
  }

  private tell(): void {
    const description = this.pc.localDescription;
    if (this.closed || !description) return;
    this.events.send(description.type as 'offer' | 'answer', { [description.type]: description, tracks: this.ownHints() });
  }

  /** `mids`: of the m-lines of an offer that is not applied yet. */
  private ownHints(mids: readonly string[] = []): TrackHint[] {
    const all = this.pc.getTransceivers();
    return [...this.published.values()].flatMap(({ transceiver, source, muted }) => {
      const mid = transceiver.mid ?? mids[all.indexOf(transceiver)];
      return mid ? [{ mid, source, muted }] : [];
    });
  }

  /** What comes to us. */
  get received(): RemoteTrack[] {
    return this.pc.getTransceivers().flatMap(({ mid, currentDirection, receiver }) => {
      const hint = mid ? this.hints.get(mid) : undefined;
      const receives = currentDirection === 'recvonly' || currentDirection === 'sendrecv';
      if (!mid || !receives || receiver.track.readyState === 'ended') return [];
      // Of whom the server says nothing is heard all the same: the shared audio of a large session is nobody's in particular.
      if (!hint && receiver.track.kind !== 'audio') return [];
      const { trackId = mid, participantId = '', source = 'microphone' } = hint ?? {};
      return [{ mid, trackId, participantId, source, track: receiver.track }];
    });
  }
}
