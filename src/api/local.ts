// SPDX-License-Identifier: Apache-2.0
/** Operations performed in this process: for one command on a machine where no daemon runs. */
import type { Controller } from '../app/controller.ts';
import { VnicError } from '../errors.ts';
import type { Transport } from './client.ts';
import { dispatch } from './dispatch.ts';
import type { ApiRequest, ApiResponse, Operation } from './operation.ts';
import type { OperationId } from './operations/index.ts';
import { problemResponse } from './problem.ts';
import { type OperationGroup, routes } from './routes.ts';

/** One command performs one or two operations: the other parts of the table need not be loaded. */
const groups: Readonly<Record<OperationGroup, () => Promise<readonly unknown[]>>> = {
  devices: async () => (await import('./operations/devices.ts')).deviceOperations,
  spec: async () => (await import('./operations/spec.ts')).specOperations,
  rules: async () => (await import('./operations/rules.ts')).ruleSetOperations,
  rule: async () => (await import('./operations/rule.ts')).ruleOperations,
  azs: async () => (await import('./operations/azs.ts')).azOperations,
  steering: async () => (await import('./operations/steering.ts')).steeringOperations,
  dataplane: async () => (await import('./operations/dataplane.ts')).dataplaneOperations,
  look: async () => (await import('./operations/look.ts')).lookOperations,
  tune: async () => (await import('./operations/tune.ts')).tuneOperations,
};

/** Throws `failed` for an operation that is not where `routes` says. */
export async function loadOperation(id: OperationId): Promise<Operation> {
  const [, , group] = routes[id];
  const operations = (await groups[group]()) as readonly Operation[];
  const operation = operations.find((candidate) => candidate.id === id);
  if (operation === undefined) throw new VnicError('failed', `There is no operation ${id}.`);
  return operation;
}

export interface LocalPorts {
  /** Opened on first use. @param withoutRights for an operation that asks what is missing */
  openController: (withoutRights: boolean) => Controller;
  /** Throws `conflict` while a daemon has the state. */
  requireNoDaemon: (controller: Controller) => void;
}

export class LocalTransport implements Transport {
  readonly #ports: LocalPorts;
  #controller: Controller | undefined;

  constructor(ports: LocalPorts) {
    this.#ports = ports;
  }

  async call(operationId: OperationId, request: ApiRequest): Promise<ApiResponse> {
    const operation = await loadOperation(operationId);
    try {
      const withoutRights = operation.needsNoRights === true;
      const controller = withoutRights ? this.#ports.openController(true) : this.#open();
      if (!withoutRights) this.#ports.requireNoDaemon(controller);
      return await dispatch({ controller, publish: () => {} }, operation, request);
    } catch (error) {
      return problemResponse(error);
    }
  }

  #open(): Controller {
    this.#controller ??= this.#ports.openController(false);
    return this.#controller;
  }

  close(): void {
    this.#controller?.close();
  }
}
