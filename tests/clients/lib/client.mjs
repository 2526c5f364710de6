// An unmodified socket.io-client that remembers everything it received.
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { io } from 'socket.io-client';

export const TRANSPORTS = ['websocket', 'polling'];
/** Longest wait for an event or ack that should come at once; several times what a busy machine needs. */
export const SOON_MS = 20_000;
/** Socket.IO packet types that answer an event. */
const ACK_PACKETS = new Set([3, 6]);

let counter = 0;
/** A name nobody else in this run uses. */
export const unique = (prefix) => `${prefix}-${process.pid}-${(counter += 1)}`;

export class Client {
  /** @param from source address, for tests in which many connections must not count against one address. */
  constructor(server, { transport = 'websocket', from, ...options } = {}) {
    this.log = [];
    this.waiting = new Set();
    this.acksById = new Map();
    this.socket = io(server.url, {
      transports: [transport],
      forceNew: true,
      reconnection: false,
      ...(from ? { agent: new Agent({ localAddress: from, keepAlive: true }) } : {}),
      ...options,
    });
    this.socket.onAny((event, payload) => this.#record(event, payload));
    this.socket.on('disconnect', (reason) => this.#record('disconnect', reason));
    // socket.io-client drops a second ack silently, so acks are counted at the packet.
    this.socket.io.on('packet', (packet) => {
      if (ACK_PACKETS.has(packet.type)) this.acksById.set(packet.id, (this.acksById.get(packet.id) ?? 0) + 1);
    });
  }

  static async connect(server, options) {
    const client = new Client(server, options);
    await client.connected();
    return client;
  }

  /** Connects and joins. */
  static async join(server, options, payload) {
    const client = await Client.connect(server, options);
    await client.joinSession(payload);
    return client;
  }

  connected() {
    return new Promise((done, fail) => {
      if (this.socket.connected) return done();
      this.socket.once('connect', done);
      this.socket.once('connect_error', fail);
    });
  }

  /** Joins; the ack is kept as `client.seat`. */
  async joinSession({ userId, ...rest }) {
    const ack = await this.emit('join-session', { userName: `Name of ${userId}`, isInstructor: false, userId, ...rest });
    assert.equal(ack.ok, true, `join refused: ${JSON.stringify(ack)}`);
    this.sessionId = ack.sessionId;
    this.userId = ack.userId;
    this.seat = ack;
    return ack;
  }

  /** Emits with an ack and gives the ack's one argument. */
  emit(event, ...args) {
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error(`no ack for ${event} in ${SOON_MS} ms`)), SOON_MS);
      this.socket.emit(event, ...args, (...answer) => {
        clearTimeout(timer);
        assert.equal(answer.length, 1, 'an ack has one argument');
        done(answer[0]);
      });
    });
  }

  /** The same, but heeds `rate/limited`, for tests that ask more than a person would. */
  async patient(event, ...args) {
    for (;;) {
      const ack = await this.emit(event, ...args);
      if (ack.error?.code !== 'rate/limited') return ack;
      await sleep(500);
    }
  }

  emitOnly(event, ...args) {
    this.socket.emit(event, ...args);
  }

  chat(message, more = {}) {
    return this.emit('chat-message', { sessionId: this.sessionId, message, userId: this.userId, userName: 'x', ...more });
  }

  signal(kind, targetUserId, body, more = {}) {
    const field = kind === 'ice-candidate' ? 'candidate' : kind;
    return this.emit(kind, { sessionId: this.sessionId, targetUserId, userId: this.userId, [field]: body, ...more });
  }

  /** Where the log stands, to look only at what comes after. */
  mark() {
    return this.log.length;
  }

  /** All payloads of an event so far that satisfy `accept`. */
  all(event, accept = () => true, since = 0) {
    return this.log.slice(since).filter((e) => e.event === event && accept(e.payload)).map((e) => e.payload);
  }

  /** The first payload of an event, past or to come, that satisfies `accept`. */
  async seen(event, accept = () => true, { since = 0, within = SOON_MS } = {}) {
    const matches = (e) => e.event === event && accept(e.payload);
    const past = this.log.slice(since).find(matches);
    if (past) return past.payload;
    return new Promise((done, fail) => {
      const waiter = { matches, done: (payload) => { clearTimeout(timer); this.waiting.delete(waiter); done(payload); } };
      const timer = setTimeout(() => {
        this.waiting.delete(waiter);
        const last = JSON.stringify(this.log.slice(-8)).slice(0, 3_000);
        fail(new Error(`${this.userId}: no such ${event} in ${within} ms; last received: ${last}`));
      }, within);
      this.waiting.add(waiter);
    });
  }

  /** A roster, past or to come, that satisfies `accept`; it gets the entries by userId. */
  roster(accept, options) {
    return this.seen('participants-update', ({ participants }) => accept(byUser(participants)), options);
  }

  /** Everything this client emitted before has been handled, and what it caused has reached `others`. */
  async fence(...others) {
    const message = unique('fence');
    assert.equal((await this.chat(message)).ok, true);
    await Promise.all([this, ...others].map((c) => c.seen('chat-message', (m) => m.message === message)));
  }

  /** The transport vanishes without a Socket.IO goodbye. */
  drop() {
    const { engine } = this.socket.io;
    const { ws } = engine.transport;
    if (ws) ws.terminate();
    else engine.close();
  }

  close() {
    this.socket.disconnect();
    const twice = [...this.acksById].filter(([, times]) => times > 1);
    assert.deepEqual(twice, [], 'every ack is given exactly once');
  }

  #record(event, payload) {
    const entry = { event, payload, at: Date.now() };
    this.log.push(entry);
    for (const waiter of [...this.waiting]) if (waiter.matches(entry)) waiter.done(payload);
  }
}

export const byUser = (participants) => new Map(participants.map((p) => [p.userId, p]));

/** Asserts a refusal with one of the codes. */
export function refused(ack, ...codes) {
  assert.equal(ack?.ok, false, `expected ${codes.join(' or ')}, got ${JSON.stringify(ack)?.slice(0, 300)}`);
  assert.ok(codes.includes(ack.error?.code), `expected ${codes.join(' or ')}, got ${JSON.stringify(ack.error)}`);
  assert.equal(typeof ack.error.message, 'string');
  assert.ok(ack.error.message.length > 0, 'a refusal says why');
}

export function accepted(ack) {
  assert.equal(ack?.ok, true, `refused: ${JSON.stringify(ack)}`);
  return ack;
}

/** `count` people in a fresh session, closed when the test ends. */
export async function people(t, server, count, { transport, from, sessionId = unique('room'), join = {} } = {}) {
  const members = [];
  t.after(() => members.forEach((member) => member.close()));
  for (let i = 0; i < count; i += 1) {
    members.push(await Client.join(server, { transport, from }, { sessionId, userId: unique('user'), ...join }));
  }
  const ids = members.map((m) => m.userId);
  await Promise.all(members.map((m) => m.roster((r) => ids.every((id) => r.has(id)))));
  return members;
}

/** The server is healthy and two fresh people can talk over both transports. */
export async function stillWell(server) {
  const health = await fetch(`${server.url}/api/health`);
  assert.equal(health.status, 200);
  await health.arrayBuffer();
  const sessionId = unique('well');
  const [a, b] = await Promise.all(TRANSPORTS.map((transport) =>
    Client.join(server, { transport }, { sessionId, userId: unique('well') })));
  try {
    await a.fence(b);
    accepted(await b.signal('ice-candidate', a.userId, { candidate: 'well' }));
    await a.seen('ice-candidate', (m) => m.candidate.candidate === 'well');
  } finally {
    a.close();
    b.close();
  }
}
