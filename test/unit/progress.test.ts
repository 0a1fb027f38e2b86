// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Progress } from '../../src/cli/progress.ts';

class Written {
  text = '';
  isTTY: boolean;
  columns = 20;
  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }
  write(text: string): void {
    this.text += text;
  }
}

const CLEAR = '\r\x1b[K';

describe('the progress of long work', () => {
  it('is a line that is replaced, cut to the terminal, and gone at the end', () => {
    const stream = new Written(true);
    {
      using progress = new Progress('loading', stream, 'xterm');
      progress.showNow();
      progress.showNow('loading 100,000 rules from a file');
    }
    assert.equal(stream.text, `${CLEAR}loading${CLEAR}loading 100,000 rul${CLEAR}`);
  });

  it('is not shown for what is soon over', () => {
    const stream = new Written(true);
    {
      using progress = new Progress('loading', stream, 'xterm');
      for (let step = 0; step < 100; step++) progress.show(`step ${step}`);
    }
    assert.equal(stream.text, '');
  });

  it('is not shown in a pipe, nor on a terminal that cannot take a line back', () => {
    for (const [isTTY, term] of [
      [false, 'xterm'],
      [true, 'dumb'],
    ] as const) {
      const stream = new Written(isTTY);
      {
        using progress = new Progress('loading', stream, term);
        progress.showNow();
        progress.clear();
      }
      assert.equal(stream.text, '', `${isTTY} ${term}`);
    }
  });
});
