// SPDX-License-Identifier: Apache-2.0
/**
 * Writes scripts/deploy/aws-schema.json: arguments, blocks and attributes of the AWS resources that deploy/terraform uses,
 * from the types of @cdktf/provider-aws (the whole package is 390 MB, so it is no dependency):
 *
 *     npm install --prefix /tmp/aws @cdktf/provider-aws@21.22.1
 *     node scripts/deploy/extract-aws-schema.ts /tmp/aws/node_modules/@cdktf/provider-aws
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { readTerraform, usedTypes } from './terraform.ts';
import type { AwsSchema, BlockSchema } from './terraform-rules.ts';

const [packageFolder] = process.argv.slice(2);
if (packageFolder === undefined) throw new Error('name the folder of @cdktf/provider-aws');

const { version, cdktf } = JSON.parse(readFileSync(path.join(packageFolder, 'package.json'), 'utf8')) as {
  version: string;
  cdktf: { provider: { version: string } };
};

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function typesOf(kind: 'resource' | 'data', type: string): BlockSchema & { attributes: string[] } {
  const name = `${kind === 'data' ? 'data-' : ''}aws-${type.slice('aws_'.length).replaceAll('_', '-')}`;
  const folders = [name, name.replace('aws-', '')].map((folder) => path.join(packageFolder!, 'lib', folder));
  const folder = folders.find((candidate) => readdirSync(path.dirname(candidate)).includes(path.basename(candidate)));
  if (folder === undefined) throw new Error(`@cdktf/provider-aws has no ${kind} ${type}`);
  const text = readFileSync(path.join(folder, 'index.d.ts'), 'utf8');
  const config = /export interface (\w+Config) extends cdktf\.TerraformMetaArguments/.exec(text)?.[1];
  if (config === undefined) throw new Error(`${folder} declares no configuration`);
  const computed = [...text.slice(text.lastIndexOf('export declare class')).matchAll(/^ {4}get (\w+)\(\)/gm)];
  return { ...blockOf(text, config), attributes: [...new Set(computed.map(([, getter]) => snake(getter!)))].sort() };
}

function blockOf(text: string, name: string): BlockSchema {
  const body = new RegExp(`export interface ${name}(?: extends [\\w.]+)? \\{\n([\\s\\S]*?)\n\\}`).exec(text)?.[1] ?? '';
  const block: BlockSchema = { required: [], optional: [], blocks: {} };
  for (const [, documented, property, optional, type] of body.matchAll(
    /#(\w+) [^}]*\}\n[\s\S]*?readonly (\w+)(\??): ([^;]+);/g,
  )) {
    const key = documented ?? snake(property!);
    const inner = /^(\w+)(?:\[\])?(?: \||$)/.exec(type!)?.[1] ?? '';
    if (text.includes(`export interface ${inner} `)) block.blocks[key] = blockOf(text, inner);
    else (optional === '' ? block.required : block.optional).push(key);
  }
  return block;
}

const used = usedTypes(await readTerraform());
const schema: AwsSchema = {
  source: `@cdktf/provider-aws ${version}, of provider hashicorp/aws ${cdktf.provider.version}`,
  resource: Object.fromEntries(used.resource.map((type) => [type, typesOf('resource', type)])),
  data: Object.fromEntries(used.data.map((type) => [type, typesOf('data', type)])),
};
writeFileSync(path.join(import.meta.dirname, 'aws-schema.json'), `${JSON.stringify(schema)}\n`);
