/** Storage may be forbidden to the page: then nothing is remembered. `null` forgets. */
export function stored(storage: 'localStorage' | 'sessionStorage', key: string, value?: string | null): string {
  try {
    if (value === null) window[storage].removeItem(key);
    else if (value !== undefined) window[storage].setItem(key, value);
    return window[storage].getItem(key) ?? '';
  } catch {
    return '';
  }
}
