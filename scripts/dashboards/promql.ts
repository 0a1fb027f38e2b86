// SPDX-License-Identifier: Apache-2.0
/** PromQL expressions taken apart, without a Prometheus. Pure. */
import { parser } from '@prometheus-io/lezer-promql';

type SyntaxNode = ReturnType<typeof parser.parse>['topNode'];

/** What Grafana would put for its variables, so that the rest is PromQL. `$instance` and `$device` select all. */
const GRAFANA_VALUES: Readonly<Record<string, string>> = {
  $__rate_interval: '10s',
  $__interval: '1s',
  $__range: '15s',
  $instance: '.+',
  $device: '.+',
};

/** Throws on a variable that the dashboards do not have. */
export function withoutVariables(expression: string): string {
  return expression.replace(/\$\w+/g, (variable, offset: number) => {
    const value = GRAFANA_VALUES[variable];
    if (value !== undefined) return value;
    // "$1" of label_replace is no variable.
    if (/^\$\d+$/.test(variable) && expression[offset - 1] !== '{') return variable;
    throw new Error(`${variable} is no variable of the dashboards: ${expression}`);
  });
}

function rootOf(expression: string): SyntaxNode {
  const tree = parser.parse(expression);
  tree.iterate({
    enter: ({ type, from }) => {
      if (type.isError) throw new SyntaxError(`not PromQL, at ${from}: ${expression}`);
    },
  });
  const root = tree.topNode.firstChild;
  if (root === null) throw new SyntaxError('an empty expression');
  return root;
}

function childrenOf(node: SyntaxNode): SyntaxNode[] {
  const children: SyntaxNode[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) children.push(child);
  return children;
}

/** Names of the metrics that the expression selects. Throws a SyntaxError if it is not PromQL. */
export function metricNames(expression: string): string[] {
  const names = new Set<string>();
  rootOf(expression)
    .cursor()
    .iterate(({ name, node, from }) => {
      if (name !== 'VectorSelector') return;
      const identifier = node.getChild('Identifier');
      if (identifier === null) throw new SyntaxError(`a selector without a name, at ${from}: ${expression}`);
      names.add(expression.slice(identifier.from, identifier.to));
    });
  return [...names];
}

const COMPARISONS = new Set(['Eql', 'Neq', 'Gtr', 'Lss', 'Gte', 'Lte']);

/**
 * The parts of an expression that must have samples although the whole may have none: what is compared with a bound,
 * both sides of `and`, the left one of `unless`, what `absent` looks for. The whole if it is nothing of that.
 */
export function requiredParts(expression: string): string[] {
  return requiredOf(rootOf(expression)).map(({ from, to }) => expression.slice(from, to));
}

function requiredOf(node: SyntaxNode): SyntaxNode[] {
  const children = childrenOf(node);
  if (node.name === 'ParenExpr') return children.flatMap(requiredOf);
  if (node.name === 'NumberDurationLiteral') return [];
  if (node.name === 'FunctionCall' && node.getChild('FunctionIdentifier')?.getChild('Absent') != null) {
    return childrenOf(node.getChild('FunctionCallBody') ?? node).flatMap(requiredOf);
  }
  if (node.name !== 'BinaryExpr') return [node];
  const [left, right] = [children[0]!, children.at(-1)!];
  if (children.some(({ name }) => name === 'Unless')) return requiredOf(left);
  const splits =
    children.some(({ name }) => name === 'And') ||
    (children.some(({ name }) => COMPARISONS.has(name)) && node.getChild('BoolModifier') === null);
  return splits ? [...requiredOf(left), ...requiredOf(right)] : [node];
}
