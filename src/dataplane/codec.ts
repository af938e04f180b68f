// SPDX-License-Identifier: Apache-2.0
// The small runtime under abi.gen.ts: fields at byte offsets, structs made of fields.
import { endianness } from 'node:os';

if (endianness() !== 'LE') throw new Error('fairlead: little-endian machines only');

/** How one field lies in a struct. `T` is number up to 32 bits, bigint for 64, bytes for arrays. */
export interface Field<T> {
  readonly offset: number;
  readonly size: number;
  read(view: DataView, at: number): T;
  write(view: DataView, at: number, value: T): void;
}

const field = <T>(
  offset: number,
  size: number,
  read: (view: DataView, at: number) => T,
  write: (view: DataView, at: number, value: T) => void,
): Field<T> => ({ offset, size, read, write });

/** Host byte order. */
export const u8 = (offset: number): Field<number> =>
  field(
    offset,
    1,
    (v, at) => v.getUint8(at + offset),
    (v, at, value) => v.setUint8(at + offset, value),
  );
export const u16 = (offset: number): Field<number> =>
  field(
    offset,
    2,
    (v, at) => v.getUint16(at + offset, true),
    (v, at, value) => v.setUint16(at + offset, value, true),
  );
export const u32 = (offset: number): Field<number> =>
  field(
    offset,
    4,
    (v, at) => v.getUint32(at + offset, true),
    (v, at, value) => v.setUint32(at + offset, value, true),
  );
export const u64 = (offset: number): Field<bigint> =>
  field(
    offset,
    8,
    (v, at) => v.getBigUint64(at + offset, true),
    (v, at, value) => v.setBigUint64(at + offset, value, true),
  );
/** Network byte order. */
export const be16 = (offset: number): Field<number> =>
  field(
    offset,
    2,
    (v, at) => v.getUint16(at + offset, false),
    (v, at, value) => v.setUint16(at + offset, value, false),
  );
export const be32 = (offset: number): Field<number> =>
  field(
    offset,
    4,
    (v, at) => v.getUint32(at + offset, false),
    (v, at, value) => v.setUint32(at + offset, value, false),
  );
/** Bytes as they are; reading copies. Writing wants exactly `size` of them. */
export const bytes = (offset: number, size: number): Field<Uint8Array> =>
  field(
    offset,
    size,
    (v, at) => new Uint8Array(v.buffer, v.byteOffset + at + offset, size).slice(),
    (v, at, value) => {
      if (value.length !== size) throw new RangeError(`write ${size} bytes at offset ${offset}: got ${value.length}`);
      new Uint8Array(v.buffer, v.byteOffset + at + offset, size).set(value);
    },
  );

/** A C struct of `size` bytes: reads and writes plain values, padding is 0. */
export interface Struct<T> {
  readonly size: number;
  readonly field: { readonly [K in keyof T]: Field<T[K]> };
  encode(value: T): Uint8Array;
  /** `at` is a byte offset into `data`. */
  decode(data: Uint8Array, at?: number): T;
}

export function struct<T>(size: number, fields: { readonly [K in keyof T]: Field<T[K]> }): Struct<T> {
  const names = Object.keys(fields) as (keyof T)[];
  return {
    size,
    field: fields,
    encode(value) {
      const data = new Uint8Array(size);
      const view = new DataView(data.buffer);
      for (const name of names) fields[name].write(view, 0, value[name]);
      return data;
    },
    decode(data, at = 0) {
      const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
      const value: Partial<T> = {};
      for (const name of names) value[name] = fields[name].read(view, at);
      return value as T;
    },
  };
}
