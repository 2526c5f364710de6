// Engine.IO and HTTP spoken by hand, for what no proper client says.
import http from 'node:http';
import net from 'node:net';
import { once } from 'node:events';
import WebSocket from 'ws';

export const PATH = '/socket.io/?EIO=4&transport=polling';
const WS_PATH = '/socket.io/?EIO=4&transport=websocket';

/** One HTTP request that always ends: `{ status, body, headers }`, or status 0 when the connection was cut. */
export function request(server, { method = 'GET', path = PATH, headers = {}, body, from, timeoutMs = 40_000, agent = false } = {}) {
  return new Promise((done, fail) => {
    const req = http.request({ host: '127.0.0.1', port: server.port, method, path, headers, localAddress: from, agent });
    const timer = setTimeout(() => { req.destroy(); fail(new Error(`${method} ${path.slice(0, 80)} did not end`)); }, timeoutMs);
    const finish = (answer) => { clearTimeout(timer); done(answer); };
    req.once('response', (res) => {
      let text = '';
      res.setEncoding('utf8').on('data', (part) => { text += part; });
      res.once('end', () => finish({ status: res.statusCode, body: text, headers: res.headers }));
      res.once('error', () => finish({ status: res.statusCode, body: text, headers: res.headers }));
    });
    req.once('error', () => finish({ status: 0, body: '', headers: {} }));
    req.once('upgrade', (res, socket) => { socket.destroy(); finish({ status: 101, body: '', headers: res.headers }); });
    if (typeof body === 'function') body(req);
    else req.end(body);
  });
}

/** A polling handshake; `connect` also joins the namespace. */
export async function handshake(server, { connect = false, from } = {}) {
  const { status, body } = await request(server, { from });
  if (status !== 200 || body[0] !== '0') return { status };
  const open = JSON.parse(body.slice(1));
  const path = `${PATH}&sid=${encodeURIComponent(open.sid)}`;
  if (connect) {
    await request(server, { method: 'POST', path, body: '40', from, headers: { 'content-type': 'text/plain;charset=UTF-8' } });
    await request(server, { path, from });
  }
  return { status, ...open, path };
}

/** A WebSocket that speaks Engine.IO by hand, answers pings, and knows when and how it closed. */
export class RawSocket {
  static async open(server, { from, connect = true, pong = true, query = '', ...options } = {}) {
    const raw = new RawSocket();
    raw.closed = undefined;
    raw.texts = [];
    raw.ws = new WebSocket(`${server.url.replace('http', 'ws')}${WS_PATH}${query}`, {
      localAddress: from, perMessageDeflate: false, ...options,
    });
    raw.ws.on('message', (data, binary) => {
      const text = binary ? '<binary>' : data.toString();
      if (text === '2' && pong) raw.send('3');
      raw.texts.push(text);
    });
    raw.ws.on('close', (code) => { raw.closed ??= code; });
    raw.ws.on('error', (error) => { raw.error = error; });
    await Promise.race([once(raw.ws, 'open'), once(raw.ws, 'close').then(() => { throw raw.error ?? new Error('closed'); })]);
    if (connect) {
      raw.send('40');
      await raw.text((t) => t.startsWith('40'));
    }
    return raw;
  }

  send(data) {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(data);
  }

  /** One frame by hand: client frames are masked, here with a mask of zeros. */
  frame(opcode, payload, { fin = true, rsv = 0 } = {}) {
    const body = Buffer.from(payload);
    const head = body.length < 126 ? Buffer.from([0, 0x80 | body.length]) : Buffer.from([0, 0x80 | 126, body.length >> 8, body.length & 255]);
    head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
    return Buffer.concat([head, Buffer.alloc(4), body]);
  }

  /** Writes frames below the WebSocket library. */
  write(...frames) {
    this.ws._socket?.write(Buffer.concat(frames));
  }

  /** The first text that satisfies `accept`, past or to come; `undefined` when it closed or time is over. */
  async text(accept, within = 20_000) {
    const end = Date.now() + within;
    for (let i = 0; ;) {
      for (; i < this.texts.length; i += 1) if (accept(this.texts[i])) return this.texts[i];
      if (this.closed !== undefined || Date.now() > end) return undefined;
      await Promise.race([
        once(this.ws, 'message').catch(() => {}), once(this.ws, 'close').catch(() => {}),
        new Promise((done) => { setTimeout(done, Math.max(1, end - Date.now())).unref(); }),
      ]);
    }
  }

  /** The close code, or `undefined` when it stayed open all the time. */
  async closing(within) {
    await this.text(() => false, within);
    return this.closed;
  }

  end() {
    this.ws.terminate();
  }
}

/** A bare TCP connection; `closed` resolves with the milliseconds it lasted and what it was told. */
export function tcp(server, from) {
  const socket = net.connect({ host: '127.0.0.1', port: server.port, localAddress: from });
  const start = Date.now();
  let told = '';
  socket.on('data', (bytes) => { told += bytes; });
  socket.on('error', () => {});
  const closed = new Promise((done) => { socket.on('close', () => done({ ms: Date.now() - start, told })); });
  return { socket, closed };
}
