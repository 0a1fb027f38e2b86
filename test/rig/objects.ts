// SPDX-License-Identifier: Apache-2.0
/** Where the rig's compiled BPF programs are. */
import { join } from 'node:path';

const folder = join(import.meta.dirname, '../../build/test');

/** Path of `test/bpf/NAME.bpf.c`, compiled (`make objects`). */
export function rigObject(name: string): string {
  return join(folder, `${name}.bpf.o`);
}
