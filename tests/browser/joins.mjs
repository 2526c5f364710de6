// How long it takes from the click on «Join» to the first picture of somebody else, near and far.

import { press } from './product.mjs';
import { HOST, openFarLine, openProxy } from './proxy.mjs';
import { SOON_MS, pass, until } from './rig.mjs';

/** Settings of the server: a proxy stands before one port, and no relay leads around it. */
export const NO_DETOUR = { LYCEUM__MEDIA__WORKERS: '1', LYCEUM__TURN__ENABLED: 'false' };

/** A way to the server whose round trips take `rttMs` each, of media and signaling; none is in between when it is 0. */
export async function openWay(lyceum, rttMs) {
  if (!rttMs) return { url: lyceum.url, close() {} };
  const [line, proxy] = await Promise.all([openFarLine(lyceum.url, rttMs), openProxy(lyceum.media, HOST)]);
  proxy.up.delayMs = proxy.down.delayMs = rttMs / 2;
  return { url: line.url, at: [HOST, proxy.port], close() { line.close(); proxy.close(); } };
}

/** Runs in the page, before its own scripts: notes when what happened, and sends media through the proxy `at` an address, if there is one. */
function clock(at) {
  const times = window.times = {};
  const note = (what) => { times[what] ??= performance.now(); };
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-action="join"]')) note('click'); }, true);
  document.addEventListener('loadeddata', ({ target }) => { if (target.closest?.('.tile:not(.own)')) note('picture'); }, true);
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...args) {
      super(...args);
      note('peer');
      this.addEventListener('iceconnectionstatechange', () => note(`ice ${this.iceConnectionState}`));
      this.addEventListener('connectionstatechange', () => note(`media ${this.connectionState}`));
      this.addEventListener('track', () => note('track'));
    }
    setLocalDescription(given) {
      return super.setLocalDescription(given).then(() => note(`own ${this.localDescription.type}`));
    }
    setRemoteDescription({ type, sdp }) {
      note(`their ${type}`);
      const detour = at && sdp.replace(/^a=candidate:(\S+ \d+ )(udp|tcp)( \d+) (\S+) \d+(.*\r\n)/gim, (_, one, kind, two, host, rest) => (
        kind === 'udp' && host === at[0] ? `a=candidate:${one}udp${two} ${at.join(' ')}${rest}` : ''));
      return super.setRemoteDescription({ type, sdp: detour || sdp });
    }
  };
}

/** Opens the call page over `way`, and joins when its form has been ready for a while, as a person would. */
async function enter(rig, browserName, way, session, name) {
  const closing = [];
  const address = `${way.url}/?${new URLSearchParams({ session, name, user: `u-${name}` })}`;
  const page = await rig.open({ after: (fn) => closing.push(fn) }, browserName, address, { before: `(${small})(); (${clock})(${JSON.stringify(way.at ?? null)})` });
  page.as = { name };
  await until(() => page.$('.preview video:not(.unlit)'), SOON_MS, 'the preview shows the camera');
  await pass(1_000); // nobody clicks sooner
  await press(page, 'join');
  return { page, leave: () => Promise.all(closing.map((fn) => fn())) };
}

/** Somebody to look at; gives what closes their page. */
export async function joinAlone(rig, way, session) {
  const { page, leave } = await enter(rig, 'chromium', way, session, 'Host');
  await until(() => page.evaluate(() => window.times['media connected']), SOON_MS, 'the host sends');
  return leave;
}

/** Joins beside somebody, and gives how many ms after the click what happened; `picture` is the first of somebody else. */
export async function timedJoin(rig, browserName, way, session, name) {
  const { page, leave } = await enter(rig, browserName, way, session, name);
  const { click, ...others } = await until(() => page.evaluate(() => window.times.picture && window.times), SOON_MS, `${name} sees somebody`);
  await leave();
  return Object.fromEntries(Object.entries(others).map(([what, at]) => [what, Math.round(at - click)]).sort((a, b) => a[1] - b[1]));
}

/** A small picture for a small machine. Runs in the page. */
function small() {
  const whole = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (asked) => whole(asked.video ? { ...asked, video: { ...asked.video, width: 320, height: 180, frameRate: 15 } } : asked);
}

/** The value below which `part` of them lie. */
export const percentile = (values, part) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.ceil(values.length * part) - 1)];
