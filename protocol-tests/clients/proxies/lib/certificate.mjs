// A self-signed certificate for 127.0.0.1.

import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Creates a certificate in `folder` with openssl: the paths of `certificate`, `key` and `both` in one file, and its text as `pem`. */
export async function makeCertificate(folder, ...extensions) {
  const [certificate, key] = [join(folder, 'certificate.pem'), join(folder, 'key.pem')];
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1',
    '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', ...extensions,
    '-out', certificate, '-keyout', key,
  ], { timeout: 10_000 });
  const [pem, keyPem] = await Promise.all([certificate, key].map((file) => readFile(file, 'utf8')));
  const both = join(folder, 'both.pem');
  await writeFile(both, pem + keyPem, { mode: 0o600 });
  return { certificate, key, both, pem };
}

/** Creates a certificate that is not an authority, as strict clients require for a server. */
export function makeEndpointCertificate(folder) {
  return makeCertificate(folder, '-addext', 'basicConstraints=critical,CA:FALSE');
}
