// Runs inside each page before its own scripts: records RTCPeerConnections and looks at what they receive.

/** Given to `evaluateOnNewDocument`, so it may use nothing from outside. */
export function probe() {
  const peers = [];
  const streamOf = new Map(); // a received track's id → the id of the stream it came in
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...args) {
      super(...args);
      peers.push(this);
      this.addEventListener('track', (event) => streamOf.set(event.track.id, event.streams[0]?.id));
    }
  };

  async function counters() {
    const found = {};
    for (const pc of peers.filter((peer) => peer.connectionState !== 'closed')) {
      for (const report of (await pc.getStats()).values()) {
        if (report.type !== 'inbound-rtp') continue;
        const one = (found[streamOf.get(report.trackIdentifier)] ??= { frames: 0, energy: 0, packets: 0 });
        one.packets += report.packetsReceived ?? 0;
        if (report.kind === 'video') { one.frames += report.framesDecoded ?? 0; one.recv = report.framesReceived; one.vpackets = report.packetsReceived; one.keys = report.keyFramesDecoded; one.pli = report.pliCount; one.nack = report.nackCount; one.lost = report.packetsLost; one.drop = report.framesDropped; one.ssrc = report.ssrc; }
        else one.energy += report.totalAudioEnergy ?? 0;
      }
    }
    return found;
  }

  /** The mean colour of what a <video> shows, [r, g, b], or null while it shows nothing. */
  function colourOf(video) {
    if (video.readyState < 2 || !video.videoWidth) return null;
    const canvas = Object.assign(document.createElement('canvas'), { width: 32, height: 18 });
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(video, 0, 0, 32, 18);
    const sum = [0, 0, 0];
    const { data } = context.getImageData(0, 0, 32, 18);
    data.forEach((value, at) => { if (at % 4 < 3) sum[at % 4] += value; });
    return sum.map((value) => Math.round(value / (32 * 18)));
  }

  /**
   * The strongest frequency of a stream's sound in Hz, or null in silence. Recorded and analysed offline, since an AudioContext
   * of Firefox does not run on a machine without an audio device.
   */
  async function toneOf(stream) {
    const tracks = stream.getAudioTracks().filter((track) => track.readyState === 'live');
    if (!tracks.length) return null;
    const recorder = new MediaRecorder(new MediaStream(tracks));
    const chunks = [];
    recorder.ondataavailable = (event) => chunks.push(event.data);
    recorder.start();
    await new Promise((done) => setTimeout(done, 500));
    // Firefox never stops a recorder of a track from which nothing has come: that is silence, too.
    const stopped = await new Promise((done) => {
      recorder.onstop = () => done(true);
      recorder.stop();
      setTimeout(done, 2_000, false);
    });
    if (!stopped) return null;
    const encoded = await new Blob(chunks).arrayBuffer();
    const sound = await new OfflineAudioContext(1, 1, 48_000).decodeAudioData(encoded).catch(() => null);
    if (!sound || sound.duration < 0.25) return null;
    const context = new OfflineAudioContext(1, sound.length, sound.sampleRate);
    const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
    const source = new AudioBufferSourceNode(context, { buffer: sound });
    source.connect(analyser).connect(context.destination);
    source.start();
    await context.startRendering();
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins); // of the last 8,192 samples
    const peak = bins.indexOf(Math.max(...bins));
    return bins[peak] < -70 ? null : Math.round((peak * context.sampleRate) / 8192);
  }

  /** For messages of failure. */
  const connections = () => peers.map((peer) => [peer.signalingState, peer.iceGatheringState, peer.iceConnectionState, peer.connectionState].join('/'));
  const stateOf = (video) => ({
    ready: video.readyState,
    paused: video.paused,
    tracks: video.srcObject.getTracks().map((track) => `${track.kind} ${track.readyState}${track.muted ? ' muted' : ''}`),
  });

  /** What each track of a stream shows, for streams of more than one picture. */
  async function coloursOf(stream) {
    const colours = [];
    for (const track of stream.getVideoTracks().filter((one) => one.readyState === 'live')) {
      const video = Object.assign(document.createElement('video'), { srcObject: new MediaStream([track]), muted: true });
      video.play().catch(() => {}); // settles only with the first frame
      for (let tries = 0; tries < 40 && !colourOf(video); tries++) await new Promise((done) => setTimeout(done, 50));
      colours.push(colourOf(video));
      video.srcObject = null;
    }
    return colours;
  }

  /** The plain pages keep `names`: a tile's id → the user. */
  // eslint-disable-next-line no-undef
  const users = () => (typeof names === 'undefined' ? {} : names);
  const tilesWithStream = () => [...document.querySelectorAll('video')].filter((video) => video.srcObject);

  /** Whether the server said that it sends nothing of a user's video for now. */
  const pauses = (user) => (window.roster ?? []).some((one) => one.userId === user && one.tracks.some((track) => window.paused?.has(track.trackId)));

  /** What pages showed in places that show it for seconds only. */
  const passed = window.passed = [];
  new MutationObserver(() => {
    for (const kind of ['.notice', '.reaction']) {
      for (const element of document.querySelectorAll(kind)) {
        const text = element.textContent;
        if (text && !passed.some((one) => one.element === element && one.text === text)) passed.push({ element, kind, text });
      }
    }
  }).observe(document, { subtree: true, childList: true, characterData: true });

  window.probe = {
    peers,
    counters,
    colourOf,
    toneOf,
    coloursOf,
    /** For each user with a tile: frames decoded and audio energy so far, and whether the server said that a video is paused. */
    async flow() {
      const found = await counters();
      return Object.fromEntries(tilesWithStream().map((video) => {
        const user = users()[video.id] ?? video.id;
        return [user, { ...found[video.srcObject.id], paused: pauses(user) }];
      }));
    },
    /** How media goes: the type of our candidate (`host`, `prflx`, `relay` …), and the transport to the server, be it TURN or SFU. */
    async way() {
      const stats = await peers.findLast((peer) => peer.connectionState !== 'closed').getStats();
      const pairs = [...stats.values()].filter((s) => s.type === 'candidate-pair' && s.nominated && s.state === 'succeeded');
      pairs.sort((a, b) => (b.lastPacketReceivedTimestamp ?? 0) - (a.lastPacketReceivedTimestamp ?? 0));
      const { candidateType, protocol, relayProtocol } = stats.get(pairs[0]?.localCandidateId) ?? {};
      return { type: candidateType, over: candidateType === 'relay' ? relayProtocol : protocol };
    },
    /** For each user with a tile: its colour and its tone. */
    async content() {
      const seen = await Promise.all(tilesWithStream().map(async (video) => [
        users()[video.id] ?? video.id,
        { colour: colourOf(video), tone: await toneOf(video.srcObject), state: { ...stateOf(video), announced: pauses(users()[video.id] ?? video.id), connections: connections() } },
      ]));
      return Object.fromEntries(seen);
    },
    async screens(user) {
      const video = tilesWithStream().find((one) => users()[one.id] === user);
      return video ? coloursOf(video.srcObject) : [];
    },
  };
}
