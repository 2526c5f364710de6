// A line of the last minutes, drawn without any library.

const [WIDTH, HEIGHT] = [300, 70];

export interface Line { name: string; values: number[] }

/** The smallest of 1, 2, 5, 10, 20 … that is not less. */
function ceiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}

export function Chart({ title, lines, show, most }: { title: string; lines: Line[]; show: (value: number) => string; most: number }) {
  const top = ceiling(Math.max(...lines.flatMap((line) => line.values), 1));
  const points = (values: number[]) => values
    .map((value, at) => `${(WIDTH * (most - values.length + at)) / (most - 1)},${HEIGHT - (HEIGHT * value) / top}`)
    .join(' ');
  const now = lines.map((line) => `${line.name ? `${line.name} ` : ''}${show(line.values.at(-1) ?? 0)}`);
  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>
        {lines.map((line, at) => <b key={line.name} class={`line-${at}`}>{now[at]}</b>)}
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${title}: ${now.join(', ')}`}>
        <line class="rule" x1="0" x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />
        <line class="rule" x1="0" x2={WIDTH} y1="0.5" y2="0.5" />
        {lines.map((line, at) => <polyline key={line.name} class={`line-${at}`} points={points(line.values)} />)}
      </svg>
      <span class="ago" aria-hidden="true"><span>5 min ago</span><span>now</span></span>
      <span class="top" aria-hidden="true">{show(top)}</span>
    </figure>
  );
}
