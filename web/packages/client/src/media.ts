// What this person's devices give: turned on and off, chosen, remembered.

import type { DeviceFault, DeviceKind, LocalMedia, MediaState } from './api.ts';
import { faultOf, listDevices, openCamera, openMicrophone, openScreen } from './devices.ts';
import { Meter } from './meter.ts';
import { recall, remember } from './storage.ts';
import { Box } from './store.ts';

export interface LocalMediaOptions {
  /** Whether choices outlive the page; `local` unless said. On and off are kept for the tab alone. */
  storage?: 'local' | 'none';
}

type Filter = (camera: MediaStreamTrack) => MediaStreamTrack;
type Input = 'camera' | 'microphone';

/** A device that ends sooner than this after it was opened is not opened again by itself. */
const LIVED_MS = 3_000;

/** Turns no device on, and touches nothing of the browser before it is asked to. */
export function createLocalMedia({ storage = 'local' }: LocalMediaOptions = {}): LocalMedia {
  return new Devices(storage === 'local');
}

class Devices extends Box<MediaState> implements LocalMedia {
  /** What was asked for last; what is so is in `state`, and gets there by `work`. */
  private readonly wanted = { camera: false, microphone: false, screen: false };
  /** One thing after another for each device: a person may press its button while the browser still asks. */
  private readonly work = { camera: Promise.resolve(), microphone: Promise.resolve(), screen: Promise.resolve() };
  private source: MediaStreamTrack | null = null; // the camera's own picture
  private filter: Filter | null = null;
  private meter: Meter | null = null;
  private watching = false;
  private closings = 0; // of the camera: how often

  constructor(private readonly remembers: boolean) {
    const chosen = (kind: DeviceKind): string => (remembers ? recall('localStorage', `lyceum.${kind}`) : '');
    super({
      camera: null, microphone: null, microphoneOn: false, screen: null, screenAudio: null,
      devices: { camera: [], microphone: [], speaker: [] },
      chosen: { camera: chosen('camera'), microphone: chosen('microphone'), speaker: chosen('speaker') },
      faults: {},
    });
  }

  override subscribe(changed: () => void): () => void {
    this.watch();
    return super.subscribe(changed);
  }

  async start(): Promise<void> {
    const before = (kind: Input): string => (this.remembers ? recall('sessionStorage', `lyceum.${kind}`) : '');
    // Each by itself, so that one that is missing does not cost the other.
    const { closings } = this;
    if (before('microphone') !== 'off') await this.setMicrophone(true);
    if (closings !== this.closings) return; // while the browser asked for the microphone: nobody would close a camera that opens now
    if (before('camera') !== 'off') await this.setCamera(true);
  }

  setMicrophone(on: boolean): Promise<void> {
    return this.turn('microphone', on, async () => {
      const { microphone } = this.state;
      if (on && microphone?.readyState !== 'live') await this.openMicrophone();
      this.hush();
    });
  }

  setCamera(on: boolean): Promise<void> {
    return this.turn('camera', on, async () => {
      if (!on) return this.cameraOff();
      if (!this.source) await this.openCamera();
    });
  }

  setScreen(on: boolean): Promise<void> {
    return this.turn('screen', on, async () => {
      if (!on) return this.screenOff();
      if (this.state.screen) return;
      const shared = await openScreen();
      if (!this.wanted.screen) {
        shared?.video.stop();
        shared?.audio?.stop();
      } else if (shared) {
        shared.video.onended = () => void this.setScreen(false);
        this.set({ screen: shared.video, screenAudio: shared.audio ?? null });
      }
      this.fault('screen');
    });
  }

  async choose(kind: DeviceKind, id: string): Promise<void> {
    this.set({ chosen: { ...this.state.chosen, [kind]: id } });
    if (this.remembers) remember('localStorage', `lyceum.${kind}`, id);
    if (kind === 'camera') await this.queue(kind, async () => { if (this.source) await this.openCamera(); });
    if (kind === 'microphone') await this.queue(kind, async () => { if (this.state.microphone) await this.openMicrophone(); });
  }

  level(): number {
    const { microphone } = this.state;
    if (this.meter?.track !== microphone) this.closeMeter();
    if (microphone?.readyState !== 'live') return 0;
    try {
      this.meter ??= new Meter(microphone);
      return this.meter.level();
    } catch {
      return 0; // no sound hardware, or too many contexts: a meter is not worth a fault
    }
  }

  setFilter(filter: Filter | null): void {
    if (filter === this.filter) return;
    this.filter = filter;
    if (this.source) this.showCamera(this.source);
  }

  close(what?: keyof typeof this.wanted): void {
    if (!what) {
      this.watching = false;
      if (typeof navigator !== 'undefined') navigator.mediaDevices?.removeEventListener('devicechange', this.look);
    }
    const meant = (one: keyof typeof this.wanted): boolean => !what || what === one;
    if (meant('camera')) {
      this.closings += 1;
      this.cameraOff();
    }
    if (meant('screen')) this.screenOff();
    if (meant('microphone')) this.microphoneOff();
  }

  /** Remembers what is wanted of a device, and sees to it after what is under way. */
  private turn(what: keyof typeof this.wanted, on: boolean, action: () => Promise<void>): Promise<void> {
    this.wanted[what] = on;
    this.watch();
    return this.queue(what, async () => {
      if (this.wanted[what] !== on) return; // pressed again meanwhile: the later one sees to it
      await action();
      if (what === 'screen' || !this.remembers || this.wanted[what] !== on) return; // or closed meanwhile, which is nobody's choice
      const is = what === 'camera' ? this.state.camera !== null : this.state.microphoneOn;
      remember('sessionStorage', `lyceum.${what}`, is ? 'on' : 'off');
    });
  }

  private queue(what: keyof typeof this.work, action: () => Promise<void>): Promise<void> {
    return (this.work[what] = this.work[what].then(action).catch((error: unknown) => {
      this.wanted[what] = what === 'camera' ? this.source !== null : what === 'microphone' && this.state.microphoneOn;
      this.fault(what, faultOf(error));
    }));
  }

  private async openMicrophone(): Promise<void> {
    const track = await openMicrophone(this.state.chosen.microphone);
    if (!this.wanted.microphone && !this.state.microphone) return track.stop();
    const opened = Date.now();
    track.onended = () => void this.lost(Date.now() - opened);
    const old = this.state.microphone;
    track.enabled = this.wanted.microphone;
    this.set({ microphone: track, microphoneOn: this.wanted.microphone });
    this.closeMeter(); // its copy of the old one would stay open
    stop(old);
    this.fault('microphone');
    void this.look();
  }

  private async openCamera(): Promise<void> {
    const track = await openCamera(this.state.chosen.camera);
    if (!this.wanted.camera) return track.stop();
    track.onended = () => {
      this.cameraOff();
      this.fault('camera', 'device/missing');
      void this.look();
    };
    const old = this.source;
    this.showCamera(track);
    stop(old);
    this.fault('camera');
    void this.look();
  }

  private showCamera(track: MediaStreamTrack): void {
    const shown = this.state.camera;
    this.source = track;
    this.set({ camera: this.filtered(track) });
    if (shown !== this.state.camera && shown !== track) stop(shown);
  }

  private filtered(track: MediaStreamTrack): MediaStreamTrack {
    try {
      return this.filter?.(track) ?? track;
    } catch (error) {
      console.warn('camera filter', error);
      return track;
    }
  }

  private microphoneOff(): void {
    this.wanted.microphone = false;
    this.closeMeter();
    stop(this.state.microphone);
    this.set({ microphone: null, microphoneOn: false });
  }

  private cameraOff(): void {
    this.wanted.camera = false;
    stop(this.source);
    stop(this.state.camera);
    this.source = null;
    this.set({ camera: null });
  }

  private screenOff(): void {
    this.wanted.screen = false;
    stop(this.state.screen);
    stop(this.state.screenAudio);
    this.set({ screen: null, screenAudio: null });
  }

  /** Muted and not, as it is wanted, of a microphone that is open. */
  private hush(): void {
    const { microphone } = this.state;
    const on = this.wanted.microphone && microphone !== null;
    if (microphone) microphone.enabled = on;
    this.set({ microphoneOn: on });
  }

  /** The microphone was unplugged, or withdrawn: another takes its place, so that who speaks is heard on. */
  private async lost(livedMs: number): Promise<void> {
    await this.queue('microphone', async () => {
      if (this.state.microphone?.readyState === 'live') return;
      this.set({ microphone: null, microphoneOn: false });
      if (!this.wanted.microphone) return;
      if (livedMs >= LIVED_MS) return this.openMicrophone();
      this.wanted.microphone = false;
      this.fault('microphone', 'device/missing');
    });
    void this.look();
  }

  private fault(what: keyof MediaState['faults'], fault?: DeviceFault): void {
    const { [what]: before, ...others } = this.state.faults;
    if (before !== fault) this.set({ faults: fault ? { ...others, [what]: fault } : others });
  }

  private watch(): void {
    if (this.watching || typeof navigator === 'undefined') return;
    this.watching = true;
    navigator.mediaDevices?.addEventListener('devicechange', this.look);
    void this.look();
  }

  private readonly look = async (): Promise<void> => {
    const devices = await listDevices();
    if (this.watching && JSON.stringify(devices) !== JSON.stringify(this.state.devices)) this.set({ devices });
  };

  private closeMeter(): void {
    this.meter?.close();
    this.meter = null;
  }
}

/** Ends a track without its `ended` handler: nobody pulled the plug. */
function stop(track: MediaStreamTrack | null): void {
  if (!track) return;
  track.onended = null;
  track.stop();
}
