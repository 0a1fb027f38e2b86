// SPDX-License-Identifier: Apache-2.0

/**
 * Skips the running test, or all tests of the suite when called in a `before` hook, and prints why.
 *
 *     it('reads the ring', function () {
 *       if (!hasTool('ethtool')) skip(this, 'ethtool is not installed');
 */
export function skip(context: Mocha.Context, reason: string): never {
  console.log(`    skipped: ${reason}`);
  return context.skip();
}
