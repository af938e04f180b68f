// SPDX-License-Identifier: Apache-2.0

/** The seed of a random test: SEED from the environment, else a new one. The test prints it. */
export function chosenSeed(): number {
  return Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
}

/** Numbers in 0..1, the same for the same seed: Numerical Recipes' generator. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
