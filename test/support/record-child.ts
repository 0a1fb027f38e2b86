// SPDX-License-Identifier: Apache-2.0
/** Writes records, one after the other, and prints the number of each when it is kept. Arguments: folder, first, count. */
import { writeSync } from 'node:fs';
import { RecordStore } from '../../src/app/record.ts';
import { recordNumber, ruleInputs } from './records.ts';

const [stateFolder = '', first = '1', count = 'Infinity'] = process.argv.slice(2);
const store = new RecordStore(stateFolder);
for (let n = Number(first); n < Number(first) + Number(count); n++) {
  // The rules change with every other record.
  store.write(recordNumber(n, ruleInputs(n >> 1, 500)));
  writeSync(1, `${n}\n`);
}
