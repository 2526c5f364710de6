// Numbers and times as people read them.

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'medium' });
const hour = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });

export const time = (ms: number | null | undefined) => (ms ? clock.format(ms) : '–');
export const timeOfDay = (ms: number) => hour.format(ms);

/** `3 d 4 h`, `12 min`, `8 s`. */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1_000));
  const [d, h, m] = [Math.floor(s / 86_400), Math.floor(s / 3_600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min${m < 10 && s % 60 ? ` ${s % 60} s` : ''}` : `${s} s`;
}

const scaled = (value: number, step: number, units: string[]) => {
  let at = 0;
  while (value >= step && at < units.length - 1) {
    value /= step;
    at++;
  }
  return `${value < 10 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
};

export const bits = (bps: number) => scaled(bps, 1_000, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s']);
export const bytes = (count: number) => scaled(count, 1_024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
export const count = (value: number) => Math.round(value).toLocaleString();
export const percent = (part: number) => `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;
export const share = (part: number, whole: number) => (whole > 0 ? percent(part / whole) : '–');
export const ms = (value: number | null) => (value === null ? '–' : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);
