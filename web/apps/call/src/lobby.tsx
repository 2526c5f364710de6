// Before and after the call: who, where, and a look in the mirror.

import { useEffect, useRef } from 'preact/hooks';
import { wordsFor } from '@lyceum/client';
import { VideoTile, useStore } from '@lyceum/react';
import { join, media, permissionsOf, toggleCamera, toggleMicrophone } from './conduct';
import { Icon } from './icons';
import { page } from './page';
import { Blur, Meter, Pickers } from './pickers';
import { words } from './strings';
import { claims } from './token';

const say = words.lobby;

/** What a call cannot do without. */
const isOld = typeof RTCPeerConnection === 'undefined' || !('popover' in HTMLElement.prototype) || typeof HTMLDialogElement === 'undefined';

export function Lobby() {
  const { view, userName, sessionId, endedBecause, attended } = useStore(page, (state) => state);
  const ended = view === 'ended';
  const submit = (event: Event): void => {
    event.preventDefault();
    join();
  };
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => { if (ended) button.current?.focus(); }, []);
  return (
    <main class="lobby">
      <Mirror />
      <form class="card" onSubmit={submit}>
        <h1>{words.product}</h1>
        {isOld && <p class="warning" role="alert"><b>{say.old}</b> {say.oldFix}</p>}
        {ended && <p class="ended" role="status">{endedBecause}</p>}
        <label>
          {say.name}
          <input name="name" required maxLength={128} autocomplete="name" readOnly={claims.name !== undefined} value={userName}
            onInput={(event) => page.set({ userName: event.currentTarget.value })} />
        </label>
        <label>
          {say.session}
          <input name="session" required maxLength={128} autocomplete="off" autocapitalize="off" readOnly={claims.sessionId !== undefined} value={sessionId}
            onInput={(event) => page.set({ sessionId: event.currentTarget.value })} />
        </label>
        <button ref={button} class="primary" type="submit" data-action="join">{ended ? say.joinAgain : say.join}</button>
        {ended && attended && <button type="button" data-action="attendance" onClick={() => page.set({ dialog: 'attendance' })}>{say.attendance}</button>}
        {!claims.sessionId && <p class="dim">{say.hint}</p>}
      </form>
    </main>
  );
}

function Mirror() {
  const { camera, microphoneOn, faults, devices } = useStore(media, (state) => state);
  const { publish } = permissionsOf(null);
  const found = (['camera', 'microphone'] as const).flatMap((device) => {
    const fault = faults[device];
    return fault && fault !== 'device/insecure' ? [wordsFor(fault, device)] : [];
  });
  const asking = !devices.camera.length && !devices.microphone.length && !found.length && isSecureContext && publish.length > 0;
  return (
    <section class="mirror" aria-label={say.preview}>
      <div class="preview">
        {camera
          ? <VideoTile track={camera} mirrored label={words.you(page.state.userName)} />
          : <p class="dim">{asking ? say.asking : say.cameraOff}</p>}
        {publish.includes('microphone') && <Meter />}
        <div class="preview-buttons">
          {publish.includes('microphone') && (
            <button type="button" class={microphoneOn ? 'round' : 'round off'} data-action="mic"
              aria-label={microphoneOn ? words.bar.micOff : words.bar.micOn} onClick={toggleMicrophone}><Icon name={microphoneOn ? 'mic' : 'micOff'} /></button>
          )}
          {publish.includes('camera') && (
            <button type="button" class={camera ? 'round' : 'round off'} data-action="camera"
              aria-label={camera ? words.bar.cameraOff : words.bar.cameraOn} onClick={toggleCamera}><Icon name={camera ? 'camera' : 'cameraOff'} /></button>
          )}
        </div>
      </div>
      <div role="status" class="faults">
        {!isSecureContext && publish.length > 0 && <p class="warning"><b>{say.insecure}</b> {say.insecureFix(location.port && `:${location.port}`)}</p>}
        {found.map((one) => <p key={one} class="warning">{one}</p>)}
      </div>
      {publish.length > 0 && <Pickers />}
      <Blur />
    </section>
  );
}
