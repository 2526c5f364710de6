// Whether media reaches the server from this browser, one way at a time: each is a real RTCPeerConnection that may use nothing
// else, with a data channel that must open.

import { post } from './api';
import type { NetworkSeat } from './types';

export type Way = 'udp' | 'tcp' | 'turn-udp' | 'turn-tcp' | 'turn-tls';

export interface Outcome {
  state: 'works' | 'fails' | 'absent';
  /** Until the channel was open. */
  tookMs: number;
  rttMs: number | null;
  /** Where it was tried: addresses or URLs. */
  tried: string[];
  /** What the browser said on the way. */
  errors: string[];
}

/** Browsers give up after 15 to 30 s themselves. */
const WAY_MAX_MS = 20_000;
const CLOSE_MAX_MS = 5_000;

const RELAYS: Partial<Record<Way, (url: string) => boolean>> = {
  'turn-udp': (url) => url.startsWith('turn:') && !url.includes('transport=tcp'),
  'turn-tcp': (url) => url.startsWith('turn:') && url.includes('transport=tcp'),
  'turn-tls': (url) => url.startsWith('turns:'),
};

/** The servers with only those URLs; none without one. */
export function serversBy(servers: RTCIceServer[], fits: (url: string) => boolean): RTCIceServer[] {
  return servers.map((server) => ({ ...server, urls: [server.urls].flat().filter(fits) })).filter((server) => server.urls.length > 0);
}

/** The description with candidates of only this transport, and their addresses. */
export function candidatesBy(sdp: string, transport: 'udp' | 'tcp'): { sdp: string; tried: string[] } {
  const tried: string[] = [];
  const lines = sdp.split('\r\n').filter((line) => {
    if (!line.startsWith('a=candidate:')) return true;
    const [, , protocol = '', , address = '', port = ''] = line.split(' ');
    const fits = protocol.toLowerCase() === transport;
    if (fits) tried.push(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
    return fits;
  });
  return { sdp: lines.join('\r\n'), tried: [...new Set(tried)] };
}

export async function tryWay(way: Way): Promise<Outcome> {
  const seat = await post<NetworkSeat>('/v1/admin/network-test');
  const fits = RELAYS[way];
  const iceServers = fits ? serversBy(seat.iceServers, fits) : [];
  const tried = iceServers.flatMap((server) => server.urls);
  const began = performance.now();
  const outcome: Outcome = { state: 'absent', tookMs: 0, rttMs: null, tried, errors: [] };
  if (fits && tried.length === 0) return outcome;
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: fits ? 'relay' : 'all' });
  pc.addEventListener('icecandidateerror', (event) => {
    const words = `${event.url}: ${event.errorText || 'failed'} (${event.errorCode})`;
    if (!outcome.errors.includes(words)) outcome.errors.push(words);
  });
  const channel = pc.createDataChannel('network-test');
  let seated = '';
  try {
    await pc.setLocalDescription();
    const answer = await publish(seat, pc.localDescription?.sdp ?? '');
    seated = answer.location;
    const { sdp, tried: addresses } = candidatesBy(answer.sdp, way === 'tcp' ? 'tcp' : 'udp');
    if (!fits) outcome.tried = addresses;
    if (addresses.length === 0) return outcome;
    await pc.setRemoteDescription({ type: 'answer', sdp });
    const works = await opened(pc, channel);
    outcome.state = works ? 'works' : 'fails';
    outcome.tookMs = performance.now() - began;
    if (works) outcome.rttMs = await roundTrip(pc);
  } catch (error) {
    outcome.state = 'fails';
    outcome.errors.push(error instanceof Error ? error.message : String(error));
  } finally {
    pc.close();
    if (seated) await fetch(seated, { method: 'DELETE', signal: AbortSignal.timeout(CLOSE_MAX_MS) }).catch(() => {});
  }
  return outcome;
}

async function publish(seat: NetworkSeat, offer: string): Promise<{ sdp: string; location: string }> {
  const as = new URLSearchParams({ userId: seat.userId, userName: 'Network test', isInstructor: 'true' });
  const response = await fetch(`/whip/${seat.sessionId}?${as}`, {
    method: 'POST',
    headers: { 'content-type': 'application/sdp', ...(seat.token ? { authorization: `Bearer ${seat.token}` } : {}) },
    body: offer,
    signal: AbortSignal.timeout(WAY_MAX_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error((JSON.parse(text) as { detail?: string }).detail ?? `The server answered ${response.status}.`);
  return { sdp: text, location: response.headers.get('location') ?? '' };
}

/** Whether the channel opens before the browser gives up. */
function opened(pc: RTCPeerConnection, channel: RTCDataChannel): Promise<boolean> {
  return new Promise((done) => {
    const timer = setTimeout(() => done(false), WAY_MAX_MS);
    const end = (works: boolean) => { clearTimeout(timer); done(works); };
    channel.addEventListener('open', () => end(true));
    pc.addEventListener('connectionstatechange', () => { if (pc.connectionState === 'failed') end(false); });
  });
}

async function roundTrip(pc: RTCPeerConnection): Promise<number | null> {
  const reports = [...(await pc.getStats()).values()] as { type: string; nominated?: boolean; state?: string; currentRoundTripTime?: number }[];
  const pair = reports.find((one) => one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded');
  return pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1_000;
}
