// What holds here, and where it was set. Secrets are not shown.

import { Fragment } from 'preact';
import { Fault, Pill, Table } from '../parts';
import { usePolled } from '../poll';
import type { Setting } from '../types';

export function Configuration() {
  const { data, fault } = usePolled<{ settings: Setting[] }>('/v1/admin/config', 0);
  const settings = data?.settings ?? [];
  const sections = [...new Set(settings.map((one) => one.section))];
  const shown = (one: Setting) => {
    if (one.secret) return one.value === null ? <span class="dim">not set</span> : <Pill tone="plain">set, hidden</Pill>;
    return one.value === null ? <span class="dim">not set</span> : <code>{typeof one.value === 'string' ? one.value : JSON.stringify(one.value)}</code>;
  };
  return (
    <>
      <h1>Configuration</h1>
      <Fault words={fault} />
      {settings.length > 0 && (
        <Table label="Settings" heads={['Setting', 'Value', 'From']}>
          {sections.map((section) => (
            <Fragment key={section}>
              <tr class="section"><th scope="rowgroup" colSpan={3}>[{section}]</th></tr>
              {settings.filter((one) => one.section === section).map((one) => (
                <tr key={one.name}><td>{one.name}</td><td class="long">{shown(one)}</td><td>{one.origin}</td></tr>
              ))}
            </Fragment>
          ))}
        </Table>
      )}
    </>
  );
}
