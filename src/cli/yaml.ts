// SPDX-License-Identifier: Apache-2.0
/** Loaded when YAML is asked for: the package is large, and in a form of which a bundle has no names to import later. */
export { stringify } from 'yaml';
