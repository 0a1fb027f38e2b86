// SPDX-License-Identifier: Apache-2.0
/** Completion in a bash on a terminal: keys go in, and the command that bash then runs tells the words that it was given. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { vnicctl } from '../support/cli.ts';
import { onTerminal, type TerminalSession } from '../support/terminal.ts';

describe('completion in bash', function () {
  this.timeout(60_000);
  let folder: string;
  let bash: TerminalSession;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-words-'));
    writeFileSync(path.join(folder, 'my azs.yaml'), '');
    writeFileSync(path.join(folder, 'eth0:1.pcap'), '');
    const start = path.join(folder, 'bashrc');
    writeFileSync(
      start,
      `PS1=; PS2=; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; stty -echo
. <(${vnicctl} completion bash)
vnicctl() {
  if [ "$1" = completion ]; then ${vnicctl} "$@"; else printf '<%s>' "$@"; echo; fi
}
cd ${folder}
`,
    );
    bash = onTerminal(['bash', '--noprofile', '--rcfile', start, '-i'], { INPUTRC: '/dev/null' });
  });
  after(async () => {
    bash.type('\x15exit\n');
    await bash.done;
    rmSync(folder, { recursive: true, force: true });
  });

  /** Types the keys and a tab behind `vnicctl`; the words that the command gets. */
  async function complete(keys: string): Promise<string[]> {
    const from = bash.output().length;
    bash.type(`vnicctl ${keys}\t\n`);
    for (;;) {
      const said = /^<(.*)>\r?$/m.exec(bash.output().slice(from));
      if (said !== null) return said[1]!.split('><');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  const cases: [what: string, keys: string, last: string][] = [
    ['a command', 'sta', 'status'],
    ['a command behind an option of all', '--netns az rule repl', 'replace'],
    ['an option behind an address', 'explain lo --src 10.0.0.1:4000 --ds', '--dst'],
    ['a value of an option', 'attach lo --mode na', 'native'],
    ['a value behind an equals sign', 'attach lo --mode=na', '--mode=native'],
    ['a file', 'config check my', 'my azs.yaml'],
    ['a file behind an equals sign', 'attach lo --config=my', '--config=my azs.yaml'],
    ['a file with a colon', 'replay eth0:1', 'eth0:1.pcap'],
  ];
  for (const [what, keys, last] of cases) {
    it(`finishes ${what}: ${keys}`, async () => {
      const words = await complete(keys);
      assert.equal(words.at(-1), last);
      assert.equal(words.length, keys.split(' ').length, 'words came or went');
    });
  }
});
