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

export async function openMicrophone(): Promise<MediaStreamTrack> {
  const constraints = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } };
  const stream = await open('Your microphone', () => navigator.mediaDevices.getUserMedia(constraints));
  return first(stream.getAudioTracks(), 'Your microphone');
}

export async function openCamera(): Promise<MediaStreamTrack> {
  const constraints = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } } };
  const stream = await open('Your camera', () => navigator.mediaDevices.getUserMedia(constraints));
  return first(stream.getVideoTracks(), 'Your camera');
}

/** The screen and, where the browser gives it, its sound. `null` if the person thought better of it. */
export async function openScreen(): Promise<{ video: MediaStreamTrack; audio?: MediaStreamTrack } | null> {
  if (!navigator.mediaDevices?.getDisplayMedia) throw new DeviceError('This browser cannot share its screen.');
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
