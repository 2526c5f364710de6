// The last warnings and errors.

import { time } from '../format';
import { Empty, Fault, Pill, Table } from '../parts';
import { usePolled } from '../poll';
import type { Line } from '../types';

export function Errors() {
  const { data, fault } = usePolled<{ lines: Line[] }>('/v1/admin/errors', 5_000);
  return (
    <>
      <h1>Errors</h1>
      <p class="dim">The last 200 warnings and errors of this node since it started; the log has them all.</p>
      <Fault words={fault} />
      {data?.lines.length === 0 && <Empty>None. All is well.</Empty>}
      {data && data.lines.length > 0 && (
        <Table label="Warnings and errors" heads={['When', 'What']}>
          {data.lines.map((line, at) => (
            <tr key={`${line.at}${at}`}>
              <td><Pill tone={line.level === 'error' ? 'bad' : 'middling'}>{line.level}</Pill> <small>{time(line.at)}</small></td>
              <td class="long">{line.text} <small>{line.target}</small></td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
