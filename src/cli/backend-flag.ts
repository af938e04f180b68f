// SPDX-License-Identifier: Apache-2.0
import { InvalidArgumentError } from 'commander';
import { integerOf } from './help.js';

/** A backend as a flag names it: `b1=10.0.0.1` or, with a weight, `b1=10.0.0.1@50`. Throws InvalidArgumentError. */
export function readBackendFlag(text: string): { name: string; address: string; weight?: number } {
  const [, name, address, weight] = /^([^=]+)=([^@]+)(?:@(.*))?$/.exec(text) ?? [];
  if (name === undefined || address === undefined) {
    throw new InvalidArgumentError('Wanted NAME=ADDRESS or NAME=ADDRESS@WEIGHT.');
  }
  return weight === undefined ? { name, address } : { name, address, weight: integerOf(weight, 0, 256) };
}
