// What is remembered in the browser. Storage may be forbidden to the page, or missing: then nothing is remembered.

export type Where = 'localStorage' | 'sessionStorage';

export function recall(where: Where, key: string): string {
  if (typeof window === 'undefined') return '';
  try {
    return window[where].getItem(key) ?? '';
  } catch {
    return '';
  }
}

export function remember(where: Where, key: string, value: string): void {
  try {
    window[where].setItem(key, value);
  } catch {
    // not remembered
  }
}
