// SPDX-License-Identifier: Apache-2.0
/** Terraform's templatefile(), as far as the templates here use it: `${name}` and `${indent(N, name)}`. Pure. */

/** Throws for anything else in `${}`, and for a name without a value. */
export function renderTemplate(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\$\{([^}]*)\}/g, (_, expression: string) => {
    const [, spaces, indented, plain] = /^(?:indent\((\d+), (\w+)\)|(\w+))$/.exec(expression.trim()) ?? [];
    const name = indented ?? plain ?? '';
    const value = values[name];
    if (value === undefined) throw new Error(`the template has \${${expression}}, which has no value`);
    return indented === undefined ? value : value.replaceAll('\n', `\n${' '.repeat(Number(spaces))}`);
  });
}
