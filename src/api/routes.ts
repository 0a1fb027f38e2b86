// SPDX-License-Identifier: Apache-2.0
/**
 * Method and path of each operation, and which part of the table it is in: for a client that only has to send a request,
 * or performs one operation only. The operations themselves bring their schemas and the whole dataplane with them. A
 * test holds this against them.
 */
import type { Method } from './operation.ts';
import type { OperationId } from './operations/index.ts';

const device = '/api/v1/devices/{device}';

export type OperationGroup = 'devices' | 'spec' | 'rules' | 'rule' | 'azs' | 'steering' | 'dataplane' | 'look' | 'tune';

export const routes: Readonly<Record<OperationId, readonly [method: Method, path: string, group: OperationGroup]>> = {
  listDevices: ['get', '/api/v1/devices', 'devices'],
  attachDevice: ['post', '/api/v1/devices', 'devices'],
  getDevice: ['get', device, 'devices'],
  detachDevice: ['delete', device, 'devices'],
  diagnoseDevice: ['get', `${device}/doctor`, 'devices'],
  mendDevice: ['post', `${device}/apply`, 'devices'],
  getSpec: ['get', `${device}/spec`, 'spec'],
  replaceSpec: ['put', `${device}/spec`, 'spec'],
  listRules: ['get', `${device}/rules`, 'rules'],
  replaceRules: ['put', `${device}/rules`, 'rules'],
  patchRules: ['patch', `${device}/rules`, 'rules'],
  applyQos: ['post', `${device}/qos`, 'rules'],
  getRule: ['get', `${device}/rules/{id}`, 'rule'],
  putRule: ['put', `${device}/rules/{id}`, 'rule'],
  deleteRule: ['delete', `${device}/rules/{id}`, 'rule'],
  listAzs: ['get', `${device}/azs`, 'azs'],
  replaceAzs: ['put', `${device}/azs`, 'azs'],
  getAz: ['get', `${device}/azs/{az}`, 'azs'],
  putAz: ['put', `${device}/azs/{az}`, 'azs'],
  deleteAz: ['delete', `${device}/azs/{az}`, 'azs'],
  failAz: ['post', `${device}/azs/{az}/fail`, 'azs'],
  recoverAz: ['post', `${device}/azs/{az}/recover`, 'azs'],
  planFailure: ['post', `${device}/plan`, 'steering'],
  rebalanceDevice: ['post', `${device}/rebalance`, 'steering'],
  listQueues: ['get', `${device}/queues`, 'dataplane'],
  listFlows: ['get', `${device}/flows`, 'dataplane'],
  getTable: ['get', `${device}/table`, 'dataplane'],
  getPerf: ['get', `${device}/perf`, 'dataplane'],
  explainPacket: ['post', `${device}/explain`, 'dataplane'],
  getLatency: ['get', `${device}/latency`, 'look'],
  startCapture: ['post', `${device}/capture`, 'look'],
  readCapture: ['post', `${device}/capture/read`, 'look'],
  stopCapture: ['delete', `${device}/capture`, 'look'],
  getTuning: ['get', `${device}/tune`, 'tune'],
  applyTuning: ['post', `${device}/tune`, 'tune'],
  restoreTuning: ['delete', `${device}/tune`, 'tune'],
};
