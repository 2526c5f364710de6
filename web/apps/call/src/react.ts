// What the SDK's components need of React, from Preact: preact/compat as a whole would be a tenth of the first load.

import { useLayoutEffect, useRef, useState } from 'preact/hooks';

export { createContext } from 'preact';
export { useCallback, useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks';

export function useSyncExternalStore<T>(subscribe: (changed: () => void) => () => void, read: () => T): T {
  const value = read();
  const shown = useRef({ value, read });
  const [, again] = useState({});
  shown.current = { value, read };
  useLayoutEffect(() => {
    const look = (): void => { if (!Object.is(shown.current.value, shown.current.read())) again({}); };
    look(); // it may have changed since it was rendered
    return subscribe(look);
  }, [subscribe]);
  return value;
}
