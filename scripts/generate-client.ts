// SPDX-License-Identifier: Apache-2.0
/** Makes a TypeScript client from the OpenAPI document, as a user of the API would: build/client/. For the tests. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { generateSource } from 'oazapfts';
import packageFile from '../package.json' with { type: 'json' };
import { openApiDocument } from '../src/api/openapi.ts';

const folder = path.join(import.meta.dirname, '../build/client');
const document = path.join(folder, 'openapi.json');

mkdirSync(folder, { recursive: true });
writeFileSync(document, JSON.stringify(openApiDocument(packageFile.version), null, 2));
const source = await generateSource(document, { unionUndefined: false });
// It is checked by its generator's settings: the runtime's own types do not stand exactOptionalPropertyTypes.
writeFileSync(path.join(folder, 'api.ts'), `// @ts-nocheck\n${source}`);
