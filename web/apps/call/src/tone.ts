// A short sound by which a person hears whether their loudspeaker works.

const NOTES_HZ = [523, 659, 784];
const NOTE_S = 0.25;

/** Plays it on that loudspeaker, or on any if it is not there. Resolves when it is over, or cannot be heard at all. */
export async function playTone(speaker: string): Promise<void> {
  const context = new AudioContext();
  const out = new MediaStreamAudioDestinationNode(context);
  NOTES_HZ.forEach((frequency, at) => {
    const start = context.currentTime + 0.1 + at * NOTE_S;
    const note = new OscillatorNode(context, { frequency });
    const volume = new GainNode(context, { gain: 0 });
    volume.gain.setValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(0.25, start + 0.03);
    volume.gain.linearRampToValueAtTime(0, start + NOTE_S);
    note.connect(volume).connect(out);
    note.start(start);
    note.stop(start + NOTE_S);
  });
  const audio = new Audio();
  audio.srcObject = out.stream;
  if (speaker && 'setSinkId' in audio) await audio.setSinkId(speaker).catch(() => {});
  await audio.play().catch(() => {});
  await new Promise((done) => setTimeout(done, 1_000 * (0.3 + NOTES_HZ.length * NOTE_S)));
  audio.srcObject = null;
  await context.close();
}
