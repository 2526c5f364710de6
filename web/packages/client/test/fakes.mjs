// A server, a peer connection and devices that do what a test says.

/**
 * What socket.io-client's socket is to a call. `answers` says what the server acknowledges each event with; `null`: nothing; `'lost'`:
 * nothing, which is told when a test says so.
 */
export class FakeSocket {
  connected = false;
  active = true;
  sent = [];
  late = []; // acks that a test gives when it likes: of answers that are `later`
  handlers = new Map();
  io = { engine: { close: () => this.drop('transport close') } };

  constructor(options, answers) {
    this.options = options;
    this.answers = answers;
  }

  on(event, handler) {
    this.handlers.set(event, handler);
    return this;
  }

  /** The server says something. */
  hear(event, body) {
    this.handlers.get(event)?.(body);
  }

  emit(event, body, ack) {
    this.sent.push([event, body]);
    const answer = this.answers[event];
    if (answer === 'later') this.late.push(ack);
    else if (answer !== null) ack?.(typeof answer === 'function' ? answer(body, this) : answer ?? { ok: true });
    return this;
  }

  timeout() {
    return {
      emit: (event, body, ack) => {
        if (this.answers[event] !== 'lost') return this.emit(event, body, (answer) => ack(null, answer));
        this.sent.push([event, body]);
        this.late.push(() => ack(new Error('operation has timed out')));
        return this;
      },
    };
  }

  connect() {
    const connected = () => {
      this.connected = true;
      this.hear('connect');
    };
    if (!this.options.auth) connected();
    else this.options.auth((given) => {
      this.given = given;
      connected();
    });
    return this;
  }

  disconnect() {
    if (this.connected) this.drop('io client disconnect');
    return this;
  }

  drop(reason) {
    this.connected = false;
    this.hear('disconnect', reason);
  }

  of(event) {
    return this.sent.filter(([name]) => name === event).map(([, body]) => body);
  }
}

export class FakePeer {
  published = new Map();
  log = [];
  channels = [];
  sent = [];
  received = [];
  connection = {
    createDataChannel: (label, options) => {
      const channel = { label, options, readyState: 'connecting', bufferedAmount: 0, frames: [], send: (frame) => channel.frames.push(frame) };
      this.channels.push(channel);
      return channel;
    },
  };

  constructor(iceServers, events, stale, relay) {
    Object.assign(this, { iceServers, events, stale, relay });
  }

  publish(source, track, muted) {
    this.published.set(source, track);
    this.log.push(`publish ${source}${muted ? ' muted' : ''}`);
  }

  unpublish(source) {
    this.published.delete(source);
    this.log.push(`unpublish ${source}`);
  }

  pause(source) { this.log.push(`pause ${source}`); }
  setMuted(source, muted) { this.log.push(`${muted ? 'mute' : 'unmute'} ${source}`); }
  setLayers(source, layers) { this.log.push(`layers ${source} ${layers.map(({ active }) => Number(active)).join('')}`); }
  prepareOffer() { this.log.push('prepare'); }
  offerAhead() { this.log.push('ahead'); }
  start(iceServers) {
    this.iceServers = iceServers;
    this.log.push('start');
  }
  hello() { this.log.push('hello'); }
  isAdrift = false;
  resume(_iceServers, moved) { this.log.push(moved ? 'resume elsewhere' : 'resume'); }
  mend() { this.log.push('mend'); }
  take() {}
  takeCandidate() {}
  close() { this.closed = true; }
}

export class FakeTrack {
  static count = 0;
  enabled = true;
  readyState = 'live';
  onended = null;

  constructor(kind, deviceId = '') {
    this.kind = kind;
    this.deviceId = deviceId;
    this.id = `track-${FakeTrack.count++}`;
  }

  stop() { this.readyState = 'ended'; }

  /** The plug is pulled. */
  unplug() {
    this.readyState = 'ended';
    this.onended?.();
  }
}

const KINDS = { audio: 'audioinput', video: 'videoinput' };

/** Puts devices into `navigator` and storage into `window`; the test takes both away again. */
export function fakeBrowser(t) {
  const store = () => {
    const held = new Map();
    return { held, getItem: (key) => held.get(key) ?? null, setItem: (key, value) => { held.set(key, value); } };
  };
  const browser = {
    devices: [['audio', 'mic-1'], ['audio', 'mic-2'], ['video', 'cam-1'], ['video', 'cam-2']],
    opened: [],
    /** Set to an error's name: no device opens. */
    refuses: '',
    /** Set to a promise: devices open when it has settled, as with a prompt. */
    prompt: null,
    localStorage: store(),
    sessionStorage: store(),
  };
  const fail = (name) => { throw new DOMException('', name); };
  const mediaDevices = Object.assign(new EventTarget(), {
    async getUserMedia(asked) {
      await browser.prompt;
      if (browser.refuses) fail(browser.refuses);
      const kind = asked.audio ? 'audio' : 'video';
      const exact = asked[kind].deviceId?.exact;
      const found = browser.devices.find(([is, id]) => is === kind && (!exact || id === exact));
      if (!found) fail(exact ? 'OverconstrainedError' : 'NotFoundError');
      const track = new FakeTrack(kind, found[1]);
      browser.opened.push(track);
      return { getAudioTracks: () => (kind === 'audio' ? [track] : []), getVideoTracks: () => (kind === 'video' ? [track] : []) };
    },
    async getDisplayMedia() {
      if (browser.refuses) fail(browser.refuses);
      return { getAudioTracks: () => [new FakeTrack('audio')], getVideoTracks: () => [new FakeTrack('video')] };
    },
    async enumerateDevices() {
      return browser.devices.map(([kind, deviceId]) => ({ kind: KINDS[kind], deviceId, label: `The ${deviceId}` }));
    },
  });
  browser.mediaDevices = mediaDevices;
  const put = (name, value) => Object.defineProperty(globalThis, name, { configurable: true, value });
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  put('navigator', { mediaDevices });
  put('window', { localStorage: browser.localStorage, sessionStorage: browser.sessionStorage });
  put('HTMLMediaElement', class {});
  t.after(() => {
    delete globalThis.window;
    delete globalThis.HTMLMediaElement;
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else delete globalThis.navigator;
  });
  return browser;
}

/** Lets promises that are settled go on. */
export const settled = () => new Promise((done) => setImmediate(done));
