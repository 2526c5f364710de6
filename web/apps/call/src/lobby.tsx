// Before and after the call: who, where, and a look in the mirror.

import { useEffect, useRef } from 'preact/hooks';
import { Icon } from './icons';
import { Video } from './media';
import { Pickers } from './pickers';
import { camera, endedBecause, join, may, microphoneOn, sessionId, status, toggleCamera, toggleMicrophone, userName } from './state';
import { claims } from './token';

export function Lobby() {
  const submit = (event: Event): void => {
    event.preventDefault();
    join();
  };
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => { if (status.value === 'ended') button.current?.focus(); }, []);
  return (
    <main class="lobby">
      <section class="mirror" aria-label="Preview">
        <div class="preview">
          {camera.value
            ? <Video track={camera.value} mirrored label="You" />
            : <p class="dim">Your camera is off</p>}
          <div class="preview-buttons">
            <button type="button" hidden={!may('microphone')} class={microphoneOn.value ? 'round' : 'round off'} data-action="mic" aria-pressed={microphoneOn.value}
              aria-label={microphoneOn.value ? 'Turn microphone off' : 'Turn microphone on'} onClick={toggleMicrophone}>
              <Icon name={microphoneOn.value ? 'mic' : 'micOff'} />
            </button>
            <button type="button" hidden={!may('camera')} class={camera.value ? 'round' : 'round off'} data-action="camera" aria-pressed={camera.value !== null}
              aria-label={camera.value ? 'Turn camera off' : 'Turn camera on'} onClick={toggleCamera}>
              <Icon name={camera.value ? 'camera' : 'cameraOff'} />
            </button>
          </div>
        </div>
        <Pickers kinds={['camera', 'microphone']} />
      </section>
      <form class="card" onSubmit={submit}>
        <h1>Lyceum</h1>
        {status.value === 'ended' && <p class="ended" role="status">{endedBecause.value}</p>}
        <label>
          Your name
          <input name="name" required maxLength={128} autocomplete="name" readOnly={claims.name !== undefined} value={userName.value}
            onInput={(event) => { userName.value = event.currentTarget.value; }} />
        </label>
        <label>
          Session
          <input name="session" required maxLength={128} autocomplete="off" autocapitalize="off" readOnly={claims.sessionId !== undefined} value={sessionId.value}
            onInput={(event) => { sessionId.value = event.currentTarget.value; }} />
        </label>
        <button ref={button} class="primary" type="submit" data-action="join">{status.value === 'ended' ? 'Join again' : 'Join'}</button>
        {!claims.sessionId && <p class="dim">Everyone who enters the same session name meets in one call.</p>}
      </form>
    </main>
  );
}
