// What the server answers; /openapi.json and docs/protocol.md say more.

export interface Overview {
  timestamp: number;
  node: { nodeId: string; version: string; startedAt: number; cpuSeconds: number; residentBytes: number };
  totals: Record<'rooms' | 'participants' | 'sockets' | 'peersConnected' | 'tracks' | 'subscriptions' | 'tcpConnections', number>;
  counters: Record<'packetsIn' | 'packetsOut' | 'bytesIn' | 'bytesOut' | 'asked' | 'askedOfUs' | 'dropped', number>;
  workers: Worker[];
  turn: Turn;
  history: { databaseUp: boolean; databaseMs: number; recording: boolean; journalBytes: number; waitingFacts: number };
}

export interface Worker {
  addresses: string[];
  /** `null`: its thread has ended. */
  idleMs: number | null;
  rooms: number;
  peers: number;
  tracks: number;
  subscriptions: number;
}

export interface Turn {
  state: 'off' | 'external' | 'healthy' | 'unhealthy';
  port?: number;
  tlsPort?: number | null;
  allocations?: Record<'udp' | 'tcp' | 'tls', number>;
  streams?: Record<'tcp' | 'tls', number>;
  allocated?: number;
  mediaBytes?: Both;
  relayBytes?: Both;
  refusals?: Record<string, number>;
}

export interface Both { fromClients: number; toClients: number }

export interface NodeRow { nodeId: string; seenAt: number; meetings: number; participants: number; isThis: boolean }

export interface Session {
  sessionId: string;
  meetingId: string;
  startedAt: number;
  locked: boolean;
  capacity: number;
  participants: Participant[];
  waiting: unknown[];
}

export interface Participant {
  participantId: string;
  userId: string;
  userName: string;
  role: string;
  state: string;
  handRaised: boolean;
  tracks: { trackId: string; kind: string; source: string; muted: boolean }[];
}

export interface Media { participants: PeerMedia[]; truncated: boolean }

export interface Flow { bps: number; pps: number; loss: number; jitterMs: number; freezes: number }

export interface PeerMedia {
  participantId: string;
  connected: boolean;
  path: 'udp' | 'tcp' | 'relay' | null;
  rttMs: number | null;
  estimateBps: number | null;
  score: number;
  cause: string | null;
  up: Flow;
  down: Flow;
  tracks: TrackMedia[];
  subscriptions: Subscription[];
}

export interface TrackMedia {
  trackId: string;
  source: string;
  kind: string;
  codec: string | null;
  muted: boolean;
  held: boolean;
  subscribers: number;
  layers: Layer[];
}

export interface Layer {
  rid: string | null;
  active: boolean;
  watched: boolean;
  width: number;
  height: number;
  bps: number;
  packets: number;
  lost: number;
  jitterMs: number;
}

export interface Subscription {
  trackId: string;
  participantId: string;
  source: string;
  rid: string | null;
  spatial: number | null;
  temporal: number | null;
  paused: string | null;
  packets: number;
  bytes: number;
  lost: number;
}

export type { Attendee, Meeting, Summary } from '@lyceum/client/attendance';

export interface Endpoint { id: string; url: string; events: string[] | null; enabled: boolean; disabledReason: string | null }

export interface Delivery {
  eventId: string;
  type: string;
  sessionId: string;
  roomSeq: number;
  state: 'pending' | 'delivered' | 'dead';
  attempts: number;
  createdAt: number;
  nextAt: number | null;
  lastStatus: number | null;
  lastError: string | null;
  doneAt: number | null;
}

export interface Line { at: number; level: 'warn' | 'error'; target: string; text: string }

export interface Setting { section: string; name: string; value: unknown; origin: string; secret: boolean }

export interface NetworkSeat { sessionId: string; userId: string; token: string | null; iceServers: RTCIceServer[]; turn: Turn['state'] }
