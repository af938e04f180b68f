// SPDX-License-Identifier: Apache-2.0

/** Keeps the `limit` largest of what it is offered, in a binary heap whose root is the least of them. */
export class TopK {
  readonly #values: Float64Array;
  readonly #items: Float64Array;
  #count = 0;

  constructor(private readonly limit: number) {
    this.#values = new Float64Array(limit);
    this.#items = new Float64Array(limit);
  }

  offer(value: number, item: number): void {
    if (this.#count < this.limit) {
      this.#rise(this.#count++, value, item);
    } else if (this.limit > 0 && value > this.#value(0)) {
      this.#sink(value, item);
    }
  }

  /** The items kept, largest value first. */
  sorted(): number[] {
    return Array.from({ length: this.#count }, (_, at) => at)
      .sort((a, b) => this.#value(b) - this.#value(a))
      .map((at) => this.#items[at] ?? 0);
  }

  #value(at: number): number {
    return this.#values[at] ?? 0;
  }

  #put(at: number, value: number, item: number): void {
    this.#values[at] = value;
    this.#items[at] = item;
  }

  #rise(from: number, value: number, item: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#value(parent) <= value) break;
      this.#put(at, this.#value(parent), this.#items[parent] ?? 0);
      at = parent;
    }
    this.#put(at, value, item);
  }

  #sink(value: number, item: number): void {
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= this.#count) break;
      if (child + 1 < this.#count && this.#value(child + 1) < this.#value(child)) child++;
      if (this.#value(child) >= value) break;
      this.#put(at, this.#value(child), this.#items[child] ?? 0);
      at = child;
    }
    this.#put(at, value, item);
  }
}
