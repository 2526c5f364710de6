// Holds the dashboard against Grafana's own schema, and gateways and Google's kinds against those of their definitions, which
// the linters of manifests do not have. Names, words and types are looked at by TypeScript, since the schemas come as types of it
// and it refuses what they do not know; ranges and patterns by the definitions' own validators.
//   node check.mjs DEPLOY    from where the packages of package.json are installed; DEPLOY is the folder that is looked at

import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import yaml from 'yaml';

const [deploy] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const read = (path) => readFileSync(join(deploy, path), 'utf8');
const fail = (why) => {
  console.error(why);
  process.exit(1);
};

/** Where the definitions of a group are. */
const GROUPS = {
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api',
  'networking.gke.io': '@kubernetes-models/gke',
};

// Enums of Grafana stand for the words that a dashboard says. Panels are of one kind here, and all ask a Prometheus, whose
// questions a real one answers in tests/watched.rs.
const HEAD = `
import type { Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel } from '@grafana/schema';
import type * as TimeSeries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts';
type Plain<T> = T extends string ? \`\${T}\` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Query = Pick<DataQuery, 'refId' | 'hide'> & { expr: string; legendFormat?: string };
type Defaults = Omit<FieldConfig, 'custom'> & { custom?: Partial<TimeSeries.FieldConfig> };
type Chart = Omit<Panel, 'type' | 'options' | 'targets' | 'fieldConfig'> & {
  type: 'timeseries'; options: TimeSeries.Options; targets: Query[];
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & { defaults: Defaults };
};
type Board = Omit<Dashboard, 'panels'> & { panels: Chart[] };
`;

const manifests = readdirSync(join(deploy, 'kubernetes'))
  .flatMap((file) => yaml.parseAllDocuments(read(`kubernetes/${file}`)).map((document) => document.toJS()))
  .filter((manifest) => GROUPS[manifest?.apiVersion?.split('/')[0]]);
if (manifests.length === 0) fail('there are no manifests of these groups');

let text = HEAD;
let count = 0;
/** What must fit its type, and what must not: the same with a word that no schema knows. */
const hold = (type, value, spoiled) => {
  text += `export const n${count++}: ${type} =\n${JSON.stringify(value)};\n`;
  text += `export const n${count++}: ${type} =\n// @ts-expect-error\n${JSON.stringify(spoiled)};\n`;
};

const dashboard = JSON.parse(read('grafana/dashboards/lyceum.json'));
hold('Plain<Board>', dashboard, { ...dashboard, nonsense: 1 });
for (const panel of dashboard.panels) {
  hold('Plain<Chart>', panel, { ...panel, options: { ...panel.options, legend: { ...panel.options.legend, placement: 'nowhere' } } });
}

for (const manifest of manifests) {
  const { apiVersion, kind, metadata } = manifest;
  const [group, version] = apiVersion.split('/');
  const path = `${GROUPS[group]}/${group}/${version}/${kind}`;
  hold(`import('${path}').I${kind}`, manifest, { ...manifest, spec: { ...manifest.spec, nonsense: 1 } });
  const { [kind]: Model } = await import(path);
  try {
    new Model(manifest).validate();
  } catch (error) {
    fail(`${kind} ${metadata.name}: ${error.message}`);
  }
}

const image = yaml.parse(read('compose.yaml')).services.grafana.image;
const { version } = require('@grafana/schema/package.json');
if (image !== `grafana/grafana:${version}`) fail(`compose.yaml starts ${image}, but the schema is that of ${version}`);

writeFileSync('held.ts', text);
const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler'];
try {
  execFileSync(process.execPath, [require.resolve('typescript/lib/tsc.js'), ...options, 'held.ts'], { stdio: 'inherit' });
} catch {
  fail('what does not fit its schema is named above, by its line in held.ts');
}
console.log(`the dashboard with ${dashboard.panels.length} panels fits the schema of Grafana ${version}, ${manifests.length} manifests fit theirs`);
