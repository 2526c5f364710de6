// A weak link in user space: UDP between a page and the server, slowed, delayed and thinned out in either direction; and a far one for TCP.

import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

/** Setting of the server: a proxy stands before one port, and each worker has its own. */
export const ONE_WORKER = { LYCEUM__MEDIA__WORKERS: '1' };
/** The namespace's own address: Firefox does not believe a server that sees it at a loopback address. */
export const HOST = '10.77.0.1';
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
 * layered page). `up` and `down` are the directions as the page sees them. Each address of the page has a socket of its own
 * towards the server, so that it sees as many paths as the page has. It listens at `at`: at all addresses it answers from the one
 * that is nearest, which not every check survives.
 */
export async function openProxy(mediaPort, at = '0.0.0.0') {
  const front = createSocket('udp4');
  const [up, down] = [new Direction(), new Direction()];
  const backs = new Map();
  let losesChecks = false;
  const isCheck = (bytes) => bytes.length > 2 && bytes.readUInt16BE(0) === 1; // a STUN Binding request
  function backOf(page) {
    const key = `${page.address}:${page.port}`;
    let back = backs.get(key);
    if (!back) {
      backs.set(key, back = createSocket('udp4'));
      back.on('message', (bytes) => down.send(bytes, () => open && front.send(bytes, page.port, page.address, () => {})));
    }
    return back;
  }
  let open = true;
  await new Promise((done) => front.bind(0, at, done));
  front.on('message', (bytes, page) => {
    if (losesChecks && isCheck(bytes)) return;
    up.send(bytes, () => open && backOf(page).send(bytes, mediaPort, HOST, () => {}));
  });
  return {
    port: front.address().port,
    up,
    down,
    /**
     * From now on the server sees each page at another port, as behind a NAT that forgot it; what comes to the old one is lost, and
     * so are the pages' own checks until the returned function is called.
     */
    rebind() {
      backs.forEach((back) => back.close());
      backs.clear();
      losesChecks = true;
      return () => { losesChecks = false; };
    },
    close() {
      open = false;
      front.close();
      backs.forEach((back) => back.close());
    },
  };
}

/** A far line to the server over TCP. What a client sends first waits a round trip longer: its own handshake ends here. */
export async function openFarLine(url, rttMs) {
  const { port } = new URL(url);
  const sockets = new Set();
  const server = createServer((near) => {
    const far = connect(Number(port), '127.0.0.1');
    const handshakeOver = performance.now() + rttMs;
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.setNoDelay(true);
      const late = (deliver) => setTimeout(deliver, Math.max(0, handshakeOver - performance.now()) + rttMs / 2);
      from.on('data', (bytes) => late(() => to.write(bytes)));
      from.on('error', () => to.destroy());
      from.on('close', () => { sockets.delete(from); late(() => to.destroy()); });
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://localhost:${server.address().port}`,
    close() {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}
