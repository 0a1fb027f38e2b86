// SPDX-License-Identifier: Apache-2.0
/**
 * Checks what stands in deploy/ without any of the services that it is for: Terraform against the provider's types,
 * cloud-init and libvirt against their schemas, Kubernetes manifests, compose file.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { loadConfig } from '../src/config/config.ts';
import awsSchema from './deploy/aws-schema.json' with { type: 'json' };
import { composeProblems } from './deploy/compose-rules.ts';
import { manifestProblems } from './deploy/manifest-rules.ts';
import { renderTemplate } from './deploy/render.ts';
import { readTerraform, terraformFolder } from './deploy/terraform.ts';
import { type AwsSchema, terraformProblems } from './deploy/terraform-rules.ts';

const root = path.join(import.meta.dirname, '..');
const problems: string[] = [];
const report = (file: string, found: readonly string[]): void => {
  problems.push(...found.map((problem) => `${file}: ${problem}`));
};
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

/** What a tool says is wrong, or nothing; says so where it is not installed. */
function ask(tool: string, args: readonly string[]): string[] {
  const { status, stdout, stderr, error } = spawnSync(tool, args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (error !== undefined) {
    console.log(`check-deploy: ${tool} is not installed, not checked`);
    return [];
  }
  return status === 0 ? [] : [`${tool}: ${(stderr || stdout).trim().split('\n').slice(-3).join(' ')}`];
}

report('deploy/terraform', terraformProblems(await readTerraform(), awsSchema as AwsSchema));

/** What instances.tf makes of the default variables. */
const vnicConfig = stringify({
  devices: {
    ens6: {
      num_queues: 15,
      azs: ['a', 'b', 'c'].map((az, index) => ({
        name: `eu-central-1${az}`,
        queues: `${index * 5}-${index * 5 + 4}`,
        prefixes: [`10.0.${index * 16}.0/20`],
        silence_ms: 50,
      })),
    },
  },
  daemon: { listen: '127.0.0.1:9090' },
});
loadConfig(vnicConfig, 'vnic_config');
const work = mkdtempSync(path.join(tmpdir(), 'vnic-deploy-'));
try {
  const userData = path.join(work, 'user-data.yaml');
  writeFileSync(
    userData,
    renderTemplate(readFileSync(path.join(terraformFolder, 'cloud-init.yaml.tftpl'), 'utf8'), {
      package_url: 'https://example.org/vnicctl_0.1.0_amd64.deb',
      package_sha256: '0'.repeat(64),
      queues: '15',
      vnic_config: vnicConfig,
    }),
  );
  report('deploy/terraform/cloud-init.yaml.tftpl', ask('cloud-init', ['schema', '--config-file', userData]));
} finally {
  rmSync(work, { recursive: true, force: true });
}

const domain = path.join(root, 'deploy/libvirt/vnic-32-queues.xml');
// It is a script around xmllint.
if (ask('xmllint', ['--noout', domain]).length > 0 || ask('xmllint', ['--version']).length === 0)
  report('deploy/libvirt/vnic-32-queues.xml', ask('virt-xml-validate', [domain, 'domain']));

for (const file of readdirSync(path.join(root, 'deploy/kubernetes')).filter((name) => name.endsWith('.yaml'))) {
  report(`deploy/kubernetes/${file}`, await manifestProblems(read(`deploy/kubernetes/${file}`)));
}
report(
  'deploy/compose/compose.yaml',
  composeProblems(read('deploy/compose/compose.yaml'), (file) => existsSync(path.join(root, 'deploy/compose', file))),
);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
else console.log('deploy: Terraform, cloud-init, libvirt, Kubernetes and compose are in order');
