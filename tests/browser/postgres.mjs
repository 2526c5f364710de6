// A PostgreSQL of its own for a test: Debian's binaries, a directory under the temporary one, a Unix socket in it and no port.

import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SOON_MS, until } from './rig.mjs';

const VERSIONS = '/usr/lib/postgresql';
const bin = (name) => join(VERSIONS, readdirSync(VERSIONS).sort((a, b) => b - a)[0], 'bin', name);
/** It refuses to run as root. */
const isRoot = process.getuid() === 0;
const unprivileged = (name, words) => (isRoot
  ? ['setpriv', ['--reuid=postgres', '--regid=postgres', '--init-groups', '--', bin(name), ...words]]
  : [bin(name), words]);

/** Starts one with an empty database `lyceum`: its `url` as a setting, `query` as psql does it (rows of columns), and `stop`. */
export async function openPostgres() {
  const dir = mkdtempSync(join(tmpdir(), 'lyceum-pg-'));
  chmodSync(dir, 0o700);
  if (isRoot) {
    const { uid, gid } = statSync('/var/lib/postgresql');
    chownSync(dir, uid, gid);
  }
  const data = join(dir, 'data');
  const place = { cwd: '/', stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, LC_ALL: 'C' } };
  execFileSync(...unprivileged('initdb', ['--no-sync', '--no-locale', '-E', 'UTF8', '-A', 'trust', '-U', 'postgres', '-D', data]), place);
  const server = spawn(...unprivileged('postgres', ['-D', data, '-k', dir, '-h', '', '-c', 'fsync=off']), { ...place, stdio: 'ignore' });
  const ended = new Promise((done) => server.once('exit', done));
  const psql = (database, script) => execFileSync(bin('psql'),
    ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-U', 'postgres', '-h', dir, '-d', database, '-c', script], { encoding: 'utf8' });
  const stop = async () => {
    server.kill('SIGINT');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await until(() => {
      if (!existsSync(join(dir, '.s.PGSQL.5432'))) return false;
      psql('postgres', 'CREATE DATABASE lyceum');
      return true;
    }, SOON_MS, 'PostgreSQL answers');
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `postgres:///lyceum?user=postgres&host=${dir}`,
    query: (script) => psql('lyceum', script).split('\n').filter((line) => line !== '').map((line) => line.split('\t')),
    stop,
  };
}
