// SPDX-License-Identifier: Apache-2.0
import { InvalidArgumentError } from 'commander';
import { integerOf } from './help.js';

/**
 * A backend as a flag names it: `b1=10.0.0.1`, with a port `b1=10.0.0.1:8080` or `b1=[fd00::1]:8080`, with a weight `b1=10.0.0.1@50`.
 * Throws InvalidArgumentError.
 */
export function readBackendFlag(text: string): { name: string; address: string; port?: number; weight?: number } {
  const [, name, place, weight] = /^([^=]+)=([^@]+)(?:@(.*))?$/.exec(text) ?? [];
  if (name === undefined || place === undefined) {
    throw new InvalidArgumentError('Wanted NAME=ADDRESS, NAME=ADDRESS:PORT or either with @WEIGHT.');
  }
  const [, address = place, port] = /^\[?([^[\]]+?)\]?:(\d+)$/.exec(place.replace(/^([^[]*:[^[]*:.*)$/, '[$1]')) ?? [];
  return {
    name,
    address,
    ...(port !== undefined && { port: integerOf(port, 1, 65535) }),
    ...(weight !== undefined && { weight: integerOf(weight, 0, 256) }),
  };
}
