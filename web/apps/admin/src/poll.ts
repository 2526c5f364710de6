// Asking again and again, while somebody looks.

import { useCallback, useEffect, useState } from 'preact/hooks';
import { get, Refused } from './api';

export interface Polled<T> {
  data: T | null;
  /** Why there is nothing new; what was there before stays. */
  fault: string;
  code: string;
  again: () => void;
}

/** What is at `path`, asked again after `everyMs` (0: only by `again`). A page that nobody sees asks nothing. */
export function usePolled<T>(path: string | null, everyMs: number): Polled<T> {
  const [seen, setSeen] = useState<{ path: string | null; data: T | null; fault: string; code: string }>({ path, data: null, fault: '', code: '' });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const ended = new AbortController();
    let timer = 0;
    const look = async () => {
      window.clearTimeout(timer);
      if (!document.hidden) {
        try {
          const data = await get<T>(path, ended.signal);
          setSeen({ path, data, fault: '', code: '' });
        } catch (error) {
          if (ended.signal.aborted) return;
          const refused = error instanceof Refused ? error : new Refused(0, '', String(error));
          setSeen((before) => ({ path, data: before.path === path ? before.data : null, fault: refused.message, code: refused.code }));
        }
      }
      if (everyMs && !ended.signal.aborted) timer = window.setTimeout(look, everyMs);
    };
    const shown = () => { if (!document.hidden && everyMs) void look(); };
    document.addEventListener('visibilitychange', shown);
    void look();
    return () => {
      ended.abort();
      window.clearTimeout(timer);
      document.removeEventListener('visibilitychange', shown);
    };
  }, [path, everyMs, round]);
  const again = useCallback(() => setRound((before) => before + 1), []);
  const fresh = seen.path === path;
  return { data: fresh ? seen.data : null, fault: fresh ? seen.fault : '', code: fresh ? seen.code : '', again };
}
