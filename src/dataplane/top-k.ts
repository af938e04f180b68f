// SPDX-License-Identifier: Apache-2.0

/** Keeps the `limit` largest of what it is offered, of equals the lowest items, in a binary heap whose root is the least of them. */
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
    } else if (this.limit > 0 && this.#isLess(0, value, item)) {
      this.#sink(value, item);
    }
  }

  /** The items kept, largest value first. */
  sorted(): number[] {
    return Array.from({ length: this.#count }, (_, at) => at)
      .sort((a, b) => this.#value(b) - this.#value(a) || this.#item(a) - this.#item(b))
      .map((at) => this.#item(at));
  }

  /** The value of an item that is kept; undefined of any other. */
  valueOf(item: number): number | undefined {
    const at = this.#items.subarray(0, this.#count).indexOf(item);
    return at < 0 ? undefined : this.#value(at);
  }

  #isLess(at: number, value: number, item: number): boolean {
    const own = this.#value(at);
    return own < value || (own === value && this.#item(at) > item);
  }

  #item(at: number): number {
    return this.#items[at] ?? 0;
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
      if (this.#isLess(parent, value, item)) break;
      this.#put(at, this.#value(parent), this.#item(parent));
      at = parent;
    }
    this.#put(at, value, item);
  }

  #sink(value: number, item: number): void {
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= this.#count) break;
      if (child + 1 < this.#count && this.#isLess(child + 1, this.#value(child), this.#item(child))) child++;
      if (!this.#isLess(child, value, item)) break;
      this.#put(at, this.#value(child), this.#item(child));
      at = child;
    }
    this.#put(at, value, item);
  }
}
