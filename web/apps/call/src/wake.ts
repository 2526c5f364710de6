// Keeps the screen lit while one is in a call.

let wanted = false;
let lock: WakeLockSentinel | null = null;

async function take(): Promise<void> {
  if (!wanted || lock || document.visibilityState !== 'visible' || !('wakeLock' in navigator)) return;
  // A low battery is a reason to refuse it, and no reason to say so.
  const taken = await navigator.wakeLock.request('screen').catch(() => null);
  if (!taken) return;
  if (!wanted) return void taken.release();
  lock = taken;
  taken.onrelease = () => { lock = null; };
}

// The browser takes it away with each look elsewhere.
document.addEventListener('visibilitychange', () => void take());

export function wakeLock(on: boolean): void {
  wanted = on;
  if (on) void take();
  else void lock?.release();
}
