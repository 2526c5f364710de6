// The clipboard, which plain-HTTP pages do not have.

import { tell } from './page';
import { words } from './strings';

/** Copies and says so. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    tell(words.copied);
  } catch {
    tell(words.cannotCopy);
  }
}
