// Camera, microphone and screen, and what to tell a person who has none or said no.

export class DeviceError extends Error {}

const WORDS: Record<string, string> = {
  NotAllowedError: 'is blocked. Allow it for this page in the address bar of your browser.',
  SecurityError: 'is blocked. Allow it for this page in the address bar of your browser.',
  NotFoundError: 'was not found. Plug one in and try again; you can join without it.',
  OverconstrainedError: 'was not found. Plug one in and try again; you can join without it.',
  NotReadableError: 'is used by another program. Close that program and try again.',
  AbortError: 'could not be started. Try again.',
};

async function open(what: string, ask: () => Promise<MediaStream>): Promise<MediaStream> {
  if (!navigator.mediaDevices) throw new DeviceError(`${what} works only on https pages and on localhost.`);
  try {
    return await ask();
  } catch (error) {
    const name = error instanceof DOMException ? error.name : '';
    throw new DeviceError(`${what} ${WORDS[name] ?? 'could not be started. Try again.'}`);
  }
}

function first(tracks: MediaStreamTrack[], what: string): MediaStreamTrack {
  const [track] = tracks;
  if (!track) throw new DeviceError(`${what} ${WORDS['NotFoundError']}`);
  return track;
}

export interface Device {
  id: string;
  label: string;
}

const KINDS = { camera: 'videoinput', microphone: 'audioinput', speaker: 'audiooutput' } as const;
export type DeviceKind = keyof typeof KINDS;

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
  const stream = await open('Your microphone', () => openChosen('audio', id, wanted));
  return first(stream.getAudioTracks(), 'Your microphone');
}

export async function openCamera(id: string): Promise<MediaStreamTrack> {
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
  const stream = await open('Your camera', () => openChosen('video', id, wanted));
  return first(stream.getVideoTracks(), 'Your camera');
}

export const canShareScreen = 'getDisplayMedia' in (navigator.mediaDevices ?? {});

/** The screen and, where the browser gives it, its sound. `null` if the person thought better of it. */
export async function openScreen(): Promise<{ video: MediaStreamTrack; audio?: MediaStreamTrack } | null> {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: true });
    const video = first(stream.getVideoTracks(), 'Your screen');
    video.contentHint = 'detail';
    const [audio] = stream.getAudioTracks();
    return audio ? { video, audio } : { video };
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotAllowedError') return null;
    throw error instanceof DeviceError ? error : new DeviceError('Your screen could not be shared. Try again.');
  }
}
