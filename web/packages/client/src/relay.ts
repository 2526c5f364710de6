// TURN: which servers are used, and whether media goes by one.

/** A test of the network, asked for in the page's address: only relayed paths, whichever or by one transport. */
export type Relay = '' | '1' | 'udp' | 'tcp' | 'tls';

/** By what the TURN server is reached; empty: media goes straight to the SFU. */
export type Relayed = '' | 'udp' | 'tcp' | 'tls';

const transportOf = (url: string): Relay =>
  url.startsWith('turns:') ? 'tls' : !url.startsWith('turn:') ? '' : /[?&]transport=tcp/.test(url) ? 'tcp' : 'udp';

/** The servers that such a test leaves; all of them when there is no test. */
export function serversFor(servers: RTCIceServer[], relay: Relay): RTCIceServer[] {
  if (!relay) return servers;
  const fits = (url: string): boolean => (relay === '1' ? transportOf(url) !== '' : transportOf(url) === relay);
  return servers.map((one) => ({ ...one, urls: [one.urls].flat().filter(fits) })).filter((one) => one.urls.length);
}

export const configuration = (servers: RTCIceServer[], relay: Relay): RTCConfiguration =>
  ({ iceServers: serversFor(servers, relay), iceTransportPolicy: relay ? 'relay' : 'all' });

/** Chromium names the pair in use by its transport, Firefox marks the pair; in an ICE restart there is none for a while. */
export function relayOf(stats: RTCStatsReport): Relayed | undefined {
  const all = [...stats.values()];
  const chosen = all.find((one) => one.type === 'transport')?.selectedCandidatePairId;
  const pair = all.find((one) => one.type === 'candidate-pair' && (one.id === chosen || one.selected));
  const local = pair && stats.get(pair.localCandidateId);
  return local && (local.candidateType === 'relay' ? local.relayProtocol ?? 'udp' : '');
}
