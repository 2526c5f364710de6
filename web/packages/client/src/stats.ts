// Numbers of a call, from what the browser counts.

import type { CallStats, TrackStats } from './api.ts';
import type { RemoteTrack } from './peer.ts';
import type { Source } from './protocol.ts';

/** What a report of the browser may hold. */
interface Report {
  id: string;
  type: string;
  timestamp: number;
  [more: string]: unknown;
}

/** What is sent, by the mid that carries it. */
export interface Sent {
  mid: string;
  source: Source;
  trackId: string;
}

interface Counted {
  at: number;
  bytes: number;
  packets: number;
  lost: number;
}

const number = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : 0);

/** Keeps what was counted before, so that it can tell rates. */
export class Stats {
  private before = new Map<string, Counted>();

  of(reports: ReadonlyMap<string, unknown>, received: readonly RemoteTrack[], sent: readonly Sent[], ownId: string): CallStats {
    const all = [...reports.values()] as Report[];
    const counted = new Map<string, Counted>();
    const into = (type: string, fits: (one: Report) => boolean): Report[] => all.filter((one) => one.type === type && fits(one));
    const tracks: TrackStats[] = received.map(({ mid, trackId, participantId, source, track }) => {
      const found = into('inbound-rtp', (one) => (one['mid'] === undefined ? one['trackIdentifier'] === track.id : one['mid'] === mid));
      return { trackId, participantId, source, direction: 'in', ...this.rates(found, counted, 'bytesReceived'), ...look(found, reports) };
    });
    for (const { mid, source, trackId } of sent) {
      const found = into('outbound-rtp', (one) => one['mid'] === mid);
      if (!found.length) continue;
      const told = into('remote-inbound-rtp', (one) => found.some((own) => own['remoteId'] === one.id || own.id === one['localId']));
      const loss = Math.max(0, ...told.map((one) => number(one['fractionLost'])));
      tracks.push({ trackId, participantId: ownId, source, direction: 'out', ...this.rates(found, counted, 'bytesSent'), loss, ...look(found, reports) });
    }
    this.before = counted;
    return { ...line(all, reports), tracks };
  }

  private rates(found: Report[], counted: Map<string, Counted>, bytes: string): { kbps: number; loss: number } {
    let [bits, lost, expected] = [0, 0, 0];
    let ms = 0;
    for (const one of found) {
      const now = { at: one.timestamp, bytes: number(one[bytes]), packets: number(one['packetsReceived']), lost: number(one['packetsLost']) };
      counted.set(one.id, now);
      const was = this.before.get(one.id);
      if (!was || now.at <= was.at) continue;
      ms = Math.max(ms, now.at - was.at);
      bits += 8 * Math.max(0, now.bytes - was.bytes);
      lost += Math.max(0, now.lost - was.lost);
      expected += Math.max(0, now.packets - was.packets) + Math.max(0, now.lost - was.lost);
    }
    return { kbps: ms ? Math.round(bits / ms) : 0, loss: expected ? lost / expected : 0 };
  }
}

/** Size, pace and codec: of several layers those of the largest that is sent. */
function look(found: Report[], reports: ReadonlyMap<string, unknown>): Partial<TrackStats> {
  const [largest] = [...found].sort((a, b) => number(b['framesPerSecond'] && b['frameWidth']) - number(a['framesPerSecond'] && a['frameWidth']));
  if (!largest) return {};
  const [width, height, fps] = ['frameWidth', 'frameHeight', 'framesPerSecond'].map((name) => number(largest[name]));
  const codec = (reports.get(String(largest['codecId'])) as Report | undefined)?.['mimeType'];
  return {
    ...(width && height && { width, height, fps: Math.round(fps ?? 0) }),
    ...(typeof codec === 'string' && { codec: codec.replace(/^\w+\//, '') }),
  };
}

/** Chromium names the pair in use by its transport, Firefox marks the pair. */
function line(all: Report[], reports: ReadonlyMap<string, unknown>): { rttMs: number; path: string } {
  const chosen = all.find((one) => one.type === 'transport')?.['selectedCandidatePairId'];
  const pair = all.find((one) => one.type === 'candidate-pair' && (one.id === chosen || one['selected'] === true));
  const local = reports.get(String(pair?.['localCandidateId'])) as Report | undefined;
  const protocol = String(local?.['protocol'] ?? '');
  const path = local?.['candidateType'] === 'relay' ? `relay (${local['relayProtocol'] ?? 'udp'})` : protocol;
  return { rttMs: Math.round(1_000 * number(pair?.['currentRoundTripTime'])), path };
}
