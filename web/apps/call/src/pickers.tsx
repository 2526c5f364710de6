// Which camera, which microphone, which loudspeaker, and whether they work.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { DeviceKind } from '@lyceum/client';
import { useStore } from '@lyceum/react';
import { media } from './conduct';
import { Icon } from './icons';
import { playTone } from './tone';
import { words } from './strings';

const KINDS: readonly DeviceKind[] = ['camera', 'microphone', 'speaker'];

/** A choice for each kind of which there are devices, as far as the browser names them; with a meter and a test of the sound. */
export function Pickers() {
  const { devices, chosen } = useStore(media, (state) => state);
  return (
    <div class="pickers">
      {KINDS.filter((kind) => devices[kind].length > 0).map((kind) => {
        const all = devices[kind];
        const current = all.find((one) => one.id === chosen[kind]) ?? all[0];
        const choice = (
          <label key={kind}>
            {words.devices[kind]}
            <select name={kind} value={current?.id} onChange={(event) => void media.choose(kind, event.currentTarget.value)}>
              {all.map((one) => <option key={one.id} value={one.id}>{one.label || words.unnamed}</option>)}
            </select>
          </label>
        );
        return kind === 'speaker' ? <div key={kind} class="with-test">{choice}<SoundTest /></div> : choice;
      })}
      {!devices.speaker.length && <SoundTest />}
    </div>
  );
}

function SoundTest() {
  const speaker = useStore(media, (state) => state.chosen.speaker);
  const [playing, setPlaying] = useState(false);
  const test = async (): Promise<void> => {
    if (playing) return;
    setPlaying(true);
    await playTone(speaker);
    setPlaying(false);
  };
  return (
    <button type="button" class="round test" data-action="test-speaker" aria-label={words.lobby.testSpeaker} title={words.lobby.testSpeaker} aria-disabled={playing} onClick={test}>
      <Icon name="sound" />
    </button>
  );
}

const METER_MS = 80;

/** How loud the microphone is. It moves without rendering. */
export function Meter() {
  const on = useStore(media, (state) => state.microphoneOn);
  const element = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    const look = (): void => {
      const level = on ? media.level() : 0;
      element.current?.style.setProperty('--level', level.toFixed(2));
      element.current?.setAttribute('aria-valuenow', String(Math.round(level * 100)));
    };
    look();
    if (!on) return;
    const timer = setInterval(look, METER_MS);
    return () => clearInterval(timer);
  }, [on]);
  return <span ref={element} class="meter" role="meter" aria-valuemin={0} aria-valuemax={100} aria-valuenow={0} aria-label={words.lobby.meter}><i /></span>;
}

/** Where the camera itself can blur what is behind a person. No picture is worked on by this page. */
export function Blur() {
  const camera = useStore(media, (state) => state.camera);
  const able = (camera?.getCapabilities?.() as { backgroundBlur?: boolean[] } | undefined)?.backgroundBlur;
  const [on, setOn] = useState(false);
  useEffect(() => setOn((camera?.getSettings() as { backgroundBlur?: boolean } | undefined)?.backgroundBlur === true), [camera]);
  if (!camera || !able || able.length < 2) return null;
  const turn = async (wanted: boolean): Promise<void> => {
    await camera.applyConstraints({ ...camera.getConstraints(), backgroundBlur: wanted } as MediaTrackConstraints).then(() => setOn(wanted), () => {});
  };
  return (
    <label class="check">
      <input type="checkbox" name="blur" checked={on} onChange={(event) => void turn(event.currentTarget.checked)} />
      <span>{words.blur}<small>{words.blurHint}</small></span>
    </label>
  );
}
