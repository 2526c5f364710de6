// Which camera, which microphone, which loudspeaker.

import type { DeviceKind } from '@lyceum/client/devices';
import { choose, chosen, devices } from './state';

const TITLES: [DeviceKind, string][] = [['camera', 'Camera'], ['microphone', 'Microphone'], ['speaker', 'Speaker']];

/** A choice for each kind of which there are devices, as far as the browser names them. */
export function Pickers({ kinds = TITLES.map(([kind]) => kind) }: { kinds?: DeviceKind[] }) {
  const shown = TITLES.filter(([kind]) => kinds.includes(kind) && devices.value[kind].length > 0);
  if (!shown.length) return null;
  return (
    <div class="pickers">
      {shown.map(([kind, title]) => {
        const all = devices.value[kind];
        const current = all.find((one) => one.id === chosen[kind].value) ?? all[0];
        return (
          <label key={kind}>
            {title}
            <select name={kind} value={current?.id} onChange={(event) => void choose(kind, event.currentTarget.value)}>
              {all.map((one) => <option key={one.id} value={one.id}>{one.label}</option>)}
            </select>
          </label>
        );
      })}
    </div>
  );
}
