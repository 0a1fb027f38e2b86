// SPDX-License-Identifier: Apache-2.0
/** The checks of deploy/ find what is wrong. */
import assert from 'node:assert/strict';
import { composeProblems } from '../../scripts/deploy/compose-rules.ts';
import { manifestProblems } from '../../scripts/deploy/manifest-rules.ts';
import { renderTemplate } from '../../scripts/deploy/render.ts';
import type { Terraform } from '../../scripts/deploy/terraform.ts';
import { type AwsSchema, terraformProblems } from '../../scripts/deploy/terraform-rules.ts';

const schema: AwsSchema = {
  source: 'test',
  resource: {
    aws_subnet: {
      required: ['vpc_id'],
      optional: ['cidr_block'],
      blocks: { timeouts: { required: [], optional: ['create'], blocks: {} } },
      attributes: ['arn', 'id'],
    },
  },
  data: {},
};

function terraform(body: Record<string, unknown>, more: Partial<Terraform> = {}): Terraform {
  return { resource: { aws_subnet: { this: [body] } }, data: {}, variable: {}, output: {}, locals: {}, ...more };
}

/** `${text}`, as a Terraform expression. */
const expression = (text: string): string => `\${${text}}`;

describe('the check of Terraform files', () => {
  it('takes arguments, blocks and references that exist', () => {
    const body = { vpc_id: 'vpc', timeouts: [{ create: '1m' }], for_each: expression('local.zones') };
    const output = { id: [{ description: 'its id', value: expression('aws_subnet.this[0].id') }] };
    assert.deepEqual(terraformProblems(terraform(body, { output, locals: { zones: [] } }), schema), []);
  });

  for (const [what, body, expected] of [
    ['an argument', { vpc_id: 'v', cidr: '10.0.0.0/8' }, /has no argument cidr/],
    ['an argument of a block', { vpc_id: 'v', timeouts: [{ made: '1m' }] }, /timeouts has no argument made/],
    ['a variable', { vpc_id: expression('var.vpc') }, /var\.vpc is not declared/],
    ['a local', { vpc_id: expression('local.vpc') }, /local\.vpc is not declared/],
    ['a resource', { vpc_id: expression('aws_subnet.other.id') }, /aws_subnet\.other is not declared/],
    ['an attribute', { vpc_id: expression('aws_subnet.this.address') }, /has no attribute address/],
  ] as const) {
    it(`finds ${what} that does not exist`, () => {
      assert.match(terraformProblems(terraform(body), schema).join(), expected);
    });
  }

  it('finds a required argument that is missing, and an output without a description', () => {
    const found = terraformProblems(terraform({}, { output: { id: [{ value: '1' }] } }), schema);
    assert.match(found.join(), /lacks its argument vpc_id.*output id has no description/);
  });
});

describe('the check of Kubernetes manifests', () => {
  const manifest = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: vnic}\n';

  it('takes what the API takes', async () => {
    assert.deepEqual(await manifestProblems(manifest), []);
  });

  it('finds an unknown kind, a wrong type and a configuration that is not valid', async () => {
    assert.match((await manifestProblems(manifest.replace('Namespace', 'Nspace'))).join(), /there is no Nspace/);
    assert.match((await manifestProblems(manifest.replace('vnic', '[1]'))).join(), /name/);
    const config = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {vnic.yaml: "devices: 5"}\n';
    assert.match((await manifestProblems(config)).join(), /devices/);
  });
});

describe('the check of compose files', () => {
  it('finds unknown fields, images without a version, and files that are not there', () => {
    const text = 'services: {a: {image: prom, ports: [1], depends_on: [b], volumes: ["./x:/x", "data:/d"]}}';
    const found = composeProblems(text, () => false).join();
    for (const part of [/unknown field ports/, /no version/, /depends on b/, /mounts \.\/x/, /mounts data/]) {
      assert.match(found, part);
    }
  });
});

describe('a rendered template', () => {
  it('has its values, indented where asked', () => {
    assert.equal(
      renderTemplate(`a: ${expression('a')}\nb:\n  ${expression('indent(2, b)')}`, { a: '1', b: 'x\ny' }),
      'a: 1\nb:\n  x\n  y',
    );
  });

  it('is refused where a value is missing', () => {
    assert.throws(() => renderTemplate(expression('c'), {}), /has \$\{c\}/);
  });
});
