import { render } from 'preact';
import { Lobby } from './lobby';
import { Room } from './room';
import { notice, openDevices, rejoin, soundBlocked, status, watchAwakening } from './state';
import { playAll } from './media';
import './style.css';

function App() {
  const inCall = status.value !== 'lobby' && status.value !== 'ended';
  document.body.classList.toggle('in-call', inCall);
  return (
    <>
      {inCall ? <Room /> : <Lobby />}
      {soundBlocked.value && (
        <button class="unlock primary" onClick={playAll}>Your browser holds back the sound. Turn it on</button>
      )}
      <div class="notice" role="status" aria-live="polite" hidden={!notice.value}>{notice.value}</div>
    </>
  );
}

watchAwakening();
const root = document.getElementById('app');
if (!root) throw new Error('index.html has an #app');
render(<App />, root);
void openDevices().then(rejoin);
