'use client';

import { useCallback, useRef, useSyncExternalStore } from 'react';
import type { Store } from '@lyceum/client';

const same = (a: unknown, b: unknown): boolean => Object.is(a, b)
  || (Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((one, at) => Object.is(one, b[at])));

/**
 * What `select` makes of a store's state; the component renders again when that changes. A list with the same members is the same list,
 * so `select` may filter.
 */
export function useStore<T, S>(store: Store<T>, select: (state: T) => S): S {
  const last = useRef<{ value: S } | null>(null);
  const subscribe = useCallback((changed: () => void) => store.subscribe(changed), [store]);
  const read = (): S => {
    const value = select(store.state);
    if (!last.current || !same(last.current.value, value)) last.current = { value };
    return last.current.value;
  };
  return useSyncExternalStore(subscribe, read, read);
}
