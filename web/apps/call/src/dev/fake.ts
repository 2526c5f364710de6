// A call without a server, to look at all states of the page while it is made: `npm run dev`, then `/?fake=8`. The number is how many
// others there are. `&share`, `&wait`, `&weak`, `&away`, `&speak`, `&denied`, `&lost` show what their names say. Not in the built page.

import type { ChatMessage, LocalMedia, MediaState, Participant, RemoteTrack, Room, RoomEvents, RoomState } from '@lyceum/client';
import { Box, Emitter } from '@lyceum/client/store';
import type { Makers } from '../conduct';

const query = new URLSearchParams(location.search);
const NAMES = ['Bob Moore', 'Cleo Marsh', 'Dan Østergård', 'Eve Lindqvist', 'Fay Okafor', 'Gus', 'Hal Jordan', 'Ivy Chen'];

function picture(hue: number, wide = 640, high = 360): MediaStreamTrack {
  const canvas = Object.assign(document.createElement('canvas'), { width: wide, height: high });
  const context = canvas.getContext('2d');
  let at = 0;
  const paint = (): void => {
    if (!context) return;
    context.fillStyle = `hsl(${hue} 40% 45%)`;
    context.fillRect(0, 0, wide, high);
    context.fillStyle = `hsl(${hue} 60% 75%)`;
    context.beginPath();
    context.arc(wide / 2 + 20 * Math.sin(at++ / 10), high / 2.4, high / 5, 0, 7);
    context.arc(wide / 2, high * 1.2, high / 2.2, 0, 7);
    context.fill();
  };
  setInterval(paint, 200);
  paint();
  const [track] = canvas.captureStream(5).getVideoTracks();
  if (!track) throw new Error('a canvas has a track');
  return track;
}

class FakeMedia extends Box<MediaState> implements LocalMedia {
  constructor() {
    const of = (...labels: string[]) => labels.map((label) => ({ id: label, label }));
    super({
      camera: null, microphone: null, microphoneOn: false, screen: null, screenAudio: null,
      devices: { camera: of('FaceTime HD Camera', 'Logitech StreamCam'), microphone: of('MacBook Pro Microphone', 'AirPods'), speaker: of('MacBook Pro Speakers', 'AirPods') },
      chosen: { camera: '', microphone: '', speaker: '' }, faults: query.has('denied') ? { camera: 'device/denied', microphone: 'device/busy' } : {},
    });
  }

  async start(): Promise<void> {
    await this.setMicrophone(true);
    await this.setCamera(!query.has('denied'));
  }

  async setMicrophone(on: boolean): Promise<void> { this.set({ microphoneOn: on }); }
  async setCamera(on: boolean): Promise<void> { this.set({ camera: on ? picture(210) : null }); }
  async setScreen(on: boolean): Promise<void> { this.set({ screen: on ? picture(40) : null }); }
  async choose(kind: keyof MediaState['chosen'], id: string): Promise<void> { this.set({ chosen: { ...this.state.chosen, [kind]: id } }); }
  level(): number { return 0.3 + 0.3 * Math.sin(performance.now() / 300); }
  setFilter(): void {}
  close(): void {}
}

function person(at: number, name: string, sources: ('camera' | 'microphone' | 'screen')[]): Participant {
  return {
    participantId: `p${at}`, userId: `u${at}`, userName: name, isInstructor: at === 0, role: at === 0 ? 'instructor' : 'participant',
    state: query.has('away') && at === 1 ? 'reconnecting' : 'connected', handRaised: false,
    tracks: sources.map((source) => ({ trackId: `t${at}${source}`, kind: source === 'microphone' ? 'audio' : 'video', source, muted: source === 'microphone' && at % 3 === 2 })),
  };
}

class FakeRoom extends Box<RoomState> implements Room {
  private readonly events = new Emitter<RoomEvents>();

  constructor(sessionId: string, own: string) {
    const count = Number(query.get('fake')) || 0;
    const others = Array.from({ length: count }, (_, at) => person(at + 1, NAMES[at] ?? `Student ${at + 1}`,
      at % 4 === 1 ? ['microphone'] : at === 0 && query.has('share') ? ['camera', 'microphone', 'screen'] : ['camera', 'microphone']));
    const said = (at: number, who: number, message: string): ChatMessage =>
      ({ id: `m${at}`, userId: `u${who}`, userName: NAMES[who - 1] ?? '', message, timestamp: Date.now() - (9 - at) * 60_000 });
    super({
      status: 'idle', reason: '', metadata: null, sessionId, meetingId: 'mtg_1', ownId: '', role: 'instructor',
      permissions: { publish: ['camera', 'microphone', 'screen', 'screen-audio'], subscribe: true, chat: true, data: true, moderate: true },
      rules: { locked: false, waitingRoom: query.has('wait'), chat: true, video: true, screenShare: true },
      participants: [person(0, own, ['camera', 'microphone']), ...others],
      tracks: others.flatMap((who, at) => who.tracks.flatMap(({ trackId, source }): RemoteTrack[] =>
        (source === 'microphone' ? [] : [{ mid: '', trackId, source, participantId: who.participantId, track: source === 'screen' ? picture(40, 1280, 720) : picture(at * 47) }]))),
      speakers: query.has('speak') ? ['p1'] : [], paused: new Set(query.has('weak') ? ['t1camera'] : []), unavailable: new Map(),
      qualities: new Map(query.has('weak') ? [['p0', { participantId: 'p0', score: 1, cause: 'uplink' }], ['p3', { participantId: 'p3', score: 2, cause: 'downlink' }]] : []),
      messages: count ? [said(1, 1, 'Good morning!'), said(2, 2, 'Could you repeat the part on pacing?'), said(3, 2, 'And where are the slides? (https://example.org/systems/week-3).')] : [],
      hands: count > 2 ? ['p3', 'p2'] : [], relayed: '',
      waiting: query.has('wait') ? [{ waitingId: 'w1', userId: 'x', userName: 'Zoe Late' }, { waitingId: 'w2', userId: 'y', userName: 'Yan Later' }] : [],
    });
  }

  on<E extends keyof RoomEvents>(event: E, listener: RoomEvents[E]): () => void { return this.events.on(event, listener); }

  prepare(): void {}
  join(): void {
    this.set({ status: 'joined', ownId: 'p0' });
    if (!query.has('lost')) return;
    setTimeout(() => this.set({ status: 'reconnecting' }), 2_000);
    setTimeout(() => this.set({ tracks: [] }), 3_000); // a new way for media is being made
  }

  leave(): void { this.set({ status: 'ended', reason: '' }); }
  abandon(): void {}
  wake(): void {}

  async say(message: string): Promise<string> {
    this.set({ messages: [...this.state.messages, { id: `${Date.now()}`, userId: 'me', userName: 'Me', message, timestamp: Date.now() }] });
    return '';
  }

  async raiseHand(raised: boolean): Promise<string> {
    this.set({ hands: raised ? [...this.state.hands, 'p0'] : this.state.hands.filter((one) => one !== 'p0') });
    return '';
  }

  async react(emoji: string): Promise<string> {
    this.events.emit('reaction', { participantId: 'p0', userId: 'u0', emoji });
    return '';
  }

  async moderate(): Promise<string> { return ''; }
  want(): void {}
  unwant(): void {}
  setAudioOnly(): void {}
  send(): void {}

  async stats(): ReturnType<Room['stats']> {
    const tracks = this.state.tracks.slice(0, 3).map(({ trackId, participantId, source }) => (
      { trackId, participantId, source, direction: 'in' as const, kbps: 840, loss: 0.004, width: 640, height: 360, fps: 25, codec: 'VP8' }));
    return { rttMs: 23, path: 'udp', tracks };
  }
}

/** With `#token=x` there is attendance, too. */
function attendance(): object {
  const [start, minute] = [Date.now() - 52 * 60_000, 60_000];
  const visits = (...spans: [number, number | null][]) => spans.map(([from, to]) => ({ joinedAt: start + from * minute, leftAt: to && start + to * minute }));
  const one = (userName: string, role: string, speaking: number, ...spans: [number, number | null][]) => ({
    userId: userName, userName, role, firstJoinAt: start + (spans[0]?.[0] ?? 0) * minute, lastLeaveAt: spans.some(([, to]) => to === null) ? null : start + (spans.at(-1)?.[1] ?? 0) * minute,
    connectedMs: spans.reduce((sum, [from, to]) => sum + ((to ?? 52) - from) * minute, 0), speakingMs: speaking * minute, visits: visits(...spans),
  });
  return {
    meetingId: 'mtg_1', sessionId: 'Systems, week 3', startedAt: start, endedAt: null,
    participants: [
      one('Ada Lovelace', 'instructor', 31.5, [0, null]), one('Bob Moore', 'participant', 4.2, [2, 20], [26, null]), one('Cleo Marsh', 'participant', 1.1, [3, 49]),
      one('Dan Østergård', 'participant', 0, [11, null]), one('Maximiliane von Hohenlohe-Langenburg', 'observer', 0, [0, 45]),
    ],
  };
}

const whole = window.fetch.bind(window);
window.fetch = async (what, init) => (String(what).includes('/attendance') ? Response.json(attendance()) : whole(what, init));

export const makers = (): Makers => ({ media: new FakeMedia(), createRoom: ({ sessionId, userName = '' }) => new FakeRoom(sessionId, userName) });
