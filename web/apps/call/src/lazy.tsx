// Parts of the page that are loaded when they are first asked for, so that a call begins without them.

import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { tell } from './page';
import { wordsFor } from '@lyceum/client';

export function lazy(load: () => Promise<{ default: ComponentType }>): ComponentType {
  let loaded: ComponentType | null = null;
  return function Later() {
    const [Part, setPart] = useState<{ it: ComponentType } | null>(loaded && { it: loaded });
    useEffect(() => {
      if (Part) return;
      let shown = true;
      load().then((part) => {
        loaded = part.default;
        if (shown) setPart({ it: loaded });
      }, () => tell(wordsFor('server/unreachable')));
      return () => { shown = false; };
    }, []);
    return Part ? <Part.it /> : null;
  };
}
