// How loud a microphone is. Made when it is first asked for; no call needs it.

/** What counts as silence and as loud, in dB of full scale. */
const SILENT_DB = -60;
const LOUD_DB = -10;

/** 0 (silent) … 1 (loud) of samples between -1 and 1. */
export function loudness(samples: Float32Array): number {
  const power = samples.reduce((sum, one) => sum + one * one, 0) / Math.max(1, samples.length);
  const db = 10 * Math.log10(power || 1e-12);
  return Math.min(1, Math.max(0, (db - SILENT_DB) / (LOUD_DB - SILENT_DB)));
}

export class Meter {
  private readonly context = new AudioContext();
  private readonly analyser = new AnalyserNode(this.context, { fftSize: 1024 });
  private readonly samples = new Float32Array(1024);
  private readonly heard: MediaStreamTrack;
  private waking = false;

  /** Listens to a copy, which is not muted with the track that is sent. */
  constructor(readonly track: MediaStreamTrack) {
    this.heard = track.clone();
    this.heard.enabled = true;
    this.context.createMediaStreamSource(new MediaStream([this.heard])).connect(this.analyser);
  }

  level(): number {
    // Before the person has touched the page a browser may hold the context back.
    if (this.context.state === 'suspended' && !this.waking) {
      this.waking = true;
      void this.context.resume().catch(() => {}).finally(() => { this.waking = false; });
    }
    this.analyser.getFloatTimeDomainData(this.samples);
    return loudness(this.samples);
  }

  close(): void {
    this.heard.stop();
    void this.context.close().catch(() => {});
  }
}
