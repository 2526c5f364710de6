import { render } from 'preact';
import { Lobby } from './lobby';
import { Room } from './room';
import { announced, notice, noticeButton, openDevices, rejoin, sessionId, soundBlocked, status, watchAwakening } from './state';
import { playAll } from './media';
import './style.css';

function App() {
  const inCall = status.value !== 'lobby' && status.value !== 'ended';
  document.title = inCall ? `${sessionId.value} · Lyceum` : 'Lyceum';
  document.body.classList.toggle('in-call', inCall);
  return (
    <>
      {inCall ? <Room /> : <Lobby />}
      {soundBlocked.value && (
        <button class="unlock primary" onClick={playAll}>Your browser holds back the sound. Turn it on</button>
      )}
      <div class="spoken" aria-live="polite">{announced.value}</div>
      <div class="notice" role="status" data-empty={!notice.value}>
        {notice.value}
        {noticeButton.value && <button onClick={noticeButton.value.press}>{noticeButton.value.label}</button>}
      </div>
    </>
  );
}

watchAwakening();
const root = document.getElementById('app');
if (!root) throw new Error('index.html has an #app');
render(<App />, root);
rejoin();
void openDevices();
