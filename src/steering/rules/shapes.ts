// SPDX-License-Identifier: Apache-2.0
/** The shapes of a rule set: which prefix lengths and fields its rules use, port ranges expanded to prefixes. */
import { VnicError } from '../../errors.ts';
import type { Direction, Rule } from './model.ts';
import type { PackedRules, RuleClass } from './packed.ts';

export interface Shape {
  readonly direction: Direction;
  readonly srcBits: number;
  readonly dstBits: number;
  readonly protoGiven: boolean;
  readonly sportBits: number;
  readonly dportBits: number;
  /** Position among the direction's shapes, which stand in ascending bestOrder. */
  readonly index: number;
  /** Order of its best rule. */
  readonly bestOrder: number;
}

/** Gathers the shapes of rules that are met best first, so that a direction's shapes stand in ascending bestOrder. */
export class ShapeTable {
  readonly #classes: readonly RuleClass[];
  readonly #shapes = new Map<string, Shape>();
  readonly #lists: Record<Direction, Shape[]> = { ingress: [], egress: [] };
  readonly #ofClass: (readonly Shape[] | undefined)[];

  constructor(classes: readonly RuleClass[]) {
    this.#classes = classes;
    this.#ofClass = classes.map(() => undefined);
  }

  of(direction: Direction): readonly Shape[] {
    return this.#lists[direction];
  }

  /**
   * The shapes that a rule of the class comes to: one for each pair of port prefixes, source by source. Those that it is
   * the first to use get its order.
   */
  shapesOf(classNumber: number, order: number): readonly Shape[] {
    let shapes = this.#ofClass[classNumber];
    if (shapes === undefined) {
      const { rule, sports, dports } = this.#classes[classNumber]!;
      shapes = sports.flatMap((sport) => dports.map((dport) => this.#shapeOf(rule, order, sport.bits, dport.bits)));
      this.#ofClass[classNumber] = shapes;
    }
    return shapes;
  }

  #shapeOf({ direction, match }: Rule, bestOrder: number, sportBits: number, dportBits: number): Shape {
    const srcBits = match.src?.bits ?? 0;
    const dstBits = match.dst?.bits ?? 0;
    const protoGiven = match.proto !== undefined;
    const code = [direction, srcBits, dstBits, protoGiven, sportBits, dportBits].join();
    let shape = this.#shapes.get(code);
    if (shape === undefined) {
      const list = this.#lists[direction];
      shape = { direction, srcBits, dstBits, protoGiven, sportBits, dportBits, index: list.length, bestOrder };
      list.push(shape);
      this.#shapes.set(code, shape);
    }
    return shape;
  }
}

/** Throws too_many_shapes, naming the rules that are the cheapest to remove. */
export function checkShapes(table: ShapeTable, { rules, classOf }: PackedRules, maxShapes: number): void {
  for (const direction of ['ingress', 'egress'] as const) {
    const shapes = table.of(direction);
    if (shapes.length <= maxShapes) continue;
    const users = new Map(shapes.map((shape) => [shape, new Set<number>()]));
    for (const [position, rule] of rules.entries()) {
      for (const shape of table.shapesOf(classOf[position]!, 0)) users.get(shape)?.add(rule.id);
    }
    const fewestFirst = [...users.values()].sort((a, b) => a.size - b.size);
    const excess = fewestFirst.slice(0, shapes.length - maxShapes);
    const ruleIds = [...new Set(excess.flatMap((ids) => [...ids]))].sort((a, b) => a - b);
    throw new VnicError(
      'too_many_shapes',
      `the ${direction} rules need ${shapes.length} shapes, the dataplane has ${maxShapes}; ` +
        `the rarest shapes come from ${namedRules(ruleIds)}`,
      {
        remedy: 'Give these rules prefix lengths and ports that other rules use; port ranges cost up to 30 shapes.',
        details: { direction, shapes: shapes.length, maxShapes, ruleIds },
      },
    );
  }
}

export function namedRules(ids: readonly number[]): string {
  const shown = ids.slice(0, 10).join(', ');
  const more = ids.length > 10 ? ` and ${ids.length - 10} more` : '';
  return `rule${ids.length === 1 ? '' : 's'} ${shown}${more}`;
}
