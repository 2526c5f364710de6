// A weak link in user space: UDP between a page and the server, slowed, delayed and thinned out in either direction.

import { createSocket } from 'node:dgram';

const HEADER_BYTES = 28; // IPv4 and UDP, which a link's rate counts, too

/** One direction: a queue that is served at a rate, then a delay. Changing a field takes effect with the next datagram. */
class Direction {
  constructor() {
    Object.assign(this, { bps: Infinity, queueMs: 300, delayMs: 0, jitterMs: 0, loss: 0, passed: 0, dropped: 0, bytes: 0 });
    this.freeAt = 0; // when the link has sent all that is queued
  }

  send(bytes, deliver) {
    const now = performance.now();
    this.freeAt = Math.max(this.freeAt, now);
    if (Math.random() < this.loss || this.freeAt - now > this.queueMs || this.bps === 0) {
      this.dropped++;
      return;
    }
    this.freeAt += ((bytes.length + HEADER_BYTES) * 8 * 1_000) / this.bps;
    this.passed++;
    this.bytes += bytes.length;
    const wait = this.freeAt - now + this.delayMs + Math.random() * this.jitterMs;
    if (wait < 1) deliver();
    else setTimeout(deliver, wait);
  }
}

/**
 * Opens a proxy to the server's media port. The page must be told to send to `port` instead of the server's own (`through` of the
 * layered page). `up` and `down` are the directions as the page sees them.
 */
export async function openProxy(mediaPort) {
  const front = createSocket('udp4');
  const back = createSocket('udp4');
  const [up, down] = [new Direction(), new Direction()];
  let page = null; // where the page's checks come from; one page per proxy
  const ready = (socket) => new Promise((done) => socket.bind(0, '0.0.0.0', done));
  await Promise.all([ready(front), ready(back)]);
  front.on('message', (bytes, from) => {
    page = from;
    up.send(bytes, () => back.send(bytes, mediaPort, '127.0.0.1', () => {}));
  });
  back.on('message', (bytes) => down.send(bytes, () => page && front.send(bytes, page.port, page.address, () => {})));
  return {
    port: front.address().port,
    up,
    down,
    close() {
      front.close();
      back.close();
    },
  };
}
