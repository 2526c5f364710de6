// A certificate authority of this run, which the browsers trust as one that an administrator installed, and a server's certificate.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const quietly = { stdio: ['ignore', 'ignore', 'pipe'] };
const DAYS = '30';

/**
 * Makes the authority and a certificate for `name`. `home` is a home
 * directory whose user (Chromium) and whose Firefox `profile` trust the authority.
 */
export function openTrust(name) {
  const dir = mkdtempSync(join(tmpdir(), 'lyceum-trust-'));
  const at = (name) => join(dir, name);
  const openssl = (...words) => execFileSync('openssl', words, quietly);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...newKey, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', DAYS, '-subj', '/CN=Authority of the browser tests',
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
  openssl('req', ...newKey, '-keyout', at('server.key'), '-out', at('server.csr'), '-subj', `/CN=${name}`);
  writeFileSync(at('extensions'), `subjectAltName=DNS:${name}\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n`);
  openssl('x509', '-req', '-in', at('server.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', DAYS,
    '-extfile', at('extensions'), '-out', at('server.pem'));

  const profile = at('firefox');
  const stores = [join(dir, '.pki/nssdb'), profile];
  for (const store of stores) {
    mkdirSync(store, { recursive: true });
    execFileSync('certutil', ['-N', '--empty-password', '-d', `sql:${store}`], quietly);
    execFileSync('certutil', ['-A', '-d', `sql:${store}`, '-n', 'browser tests', '-t', 'C,,', '-i', at('ca.pem')], quietly);
  }
  return {
    home: dir,
    profile,
    /** Settings of a server that has the certificate. */
    settings: { LYCEUM__TLS__CERTIFICATE: at('server.pem'), LYCEUM__TLS__KEY: at('server.key') },
    close: () => rmSync(dir, { recursive: true, force: true }),
  };
}
