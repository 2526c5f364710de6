// Camera, microphone and screen, and why a person has none.

import type { Device, DeviceFault, DeviceKind } from './api.ts';
import { wordsFor } from './words.ts';

export type { Device, DeviceKind };

type What = 'camera' | 'microphone' | 'screen';

export class DeviceError extends Error {
  constructor(readonly fault: DeviceFault, what: What) {
    super(wordsFor(fault, what));
  }
}

/** `DOMException` names, old ones too. */
const FAULTS: Record<string, DeviceFault> = {
  NotAllowedError: 'device/denied',
  SecurityError: 'device/denied',
  PermissionDeniedError: 'device/denied',
  NotFoundError: 'device/missing',
  OverconstrainedError: 'device/missing',
  DevicesNotFoundError: 'device/missing',
  NotReadableError: 'device/busy',
  TrackStartError: 'device/busy',
};

export const faultOf = (error: unknown): DeviceFault =>
  (error instanceof DeviceError ? error.fault : FAULTS[error instanceof Error ? error.name : ''] ?? 'device/failed');

async function open(what: What, ask: () => Promise<MediaStream>): Promise<MediaStream> {
  if (!navigator.mediaDevices) throw new DeviceError('device/insecure', what);
  try {
    return await ask();
  } catch (error) {
    throw new DeviceError(faultOf(error), what);
  }
}

function first(tracks: MediaStreamTrack[], what: What): MediaStreamTrack {
  const [track] = tracks;
  if (!track) throw new DeviceError('device/missing', what);
  return track;
}

const KINDS = { camera: 'videoinput', microphone: 'audioinput', speaker: 'audiooutput' } as const;

/** What can be chosen from. Browsers name nothing before the person has allowed one device: then the lists are empty. */
export async function listDevices(): Promise<Record<DeviceKind, Device[]>> {
  const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  const of = (kind: DeviceKind): Device[] => all
    .filter((one) => one.kind === KINDS[kind] && one.deviceId && one.label)
    .map((one) => ({ id: one.deviceId, label: one.label }));
  return { camera: of('camera'), microphone: of('microphone'), speaker: 'setSinkId' in HTMLMediaElement.prototype ? of('speaker') : [] };
}

/** The device that was chosen, or any if it is not plugged in today. Browsers do not always follow a mere `ideal` device. */
async function openChosen(kind: 'audio' | 'video', id: string, wanted: MediaTrackConstraints): Promise<MediaStream> {
  if (!id) return navigator.mediaDevices.getUserMedia({ [kind]: wanted });
  try {
    return await navigator.mediaDevices.getUserMedia({ [kind]: { ...wanted, deviceId: { exact: id } } });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotAllowedError') throw error;
    return navigator.mediaDevices.getUserMedia({ [kind]: wanted });
  }
}

export async function openMicrophone(id: string): Promise<MediaStreamTrack> {
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const stream = await open('microphone', () => openChosen('audio', id, wanted));
  return first(stream.getAudioTracks(), 'microphone');
}

export async function openCamera(id: string): Promise<MediaStreamTrack> {
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
  const stream = await open('camera', () => openChosen('video', id, wanted));
  return first(stream.getVideoTracks(), 'camera');
}

/** Phones and pages without https cannot; browsers on Android have the method, and refuse it always. */
export const canShareScreen = (): boolean =>
  typeof navigator !== 'undefined' && 'getDisplayMedia' in (navigator.mediaDevices ?? {}) && !/Android/.test(navigator.userAgent);

/** The screen and, where the browser gives it, its sound. `null` if the person thought better of it. */
export async function openScreen(): Promise<{ video: MediaStreamTrack; audio?: MediaStreamTrack } | null> {
  try {
    if (!canShareScreen()) throw new DeviceError(navigator.mediaDevices ? 'device/failed' : 'device/insecure', 'screen');
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: true });
    const video = first(stream.getVideoTracks(), 'screen');
    video.contentHint = 'detail';
    const [audio] = stream.getAudioTracks();
    return audio ? { video, audio } : { video };
  } catch (error) {
    // «No» of the person and of the operating system have one name, and are told apart by words alone.
    if (error instanceof DOMException && error.name === 'NotAllowedError' && !/system/i.test(error.message)) return null;
    throw error instanceof DeviceError ? error : new DeviceError(faultOf(error), 'screen');
  }
}
