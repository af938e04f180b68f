// SPDX-License-Identifier: Apache-2.0
// Generates src/dataplane/abi.gen.ts and the table in docs/maps.md from the BTF of the compiled object.
// Usage: node dist/scripts/abi.js OBJECT abi CODEC_MODULE [PREFIX: of the maps, enums and constants that are meant] | OBJECT docs
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly nr_elems?: number;
  readonly members?: readonly {
    readonly name: string;
    readonly type_id: number;
    readonly bits_offset: number;
    readonly bitfield_size?: number;
  }[];
  readonly values?: readonly { readonly name: string; readonly val: number }[];
  readonly vars?: readonly { readonly type_id: number }[];
}

const [object = '', what = 'abi', codec = './codec.js', only = ''] = process.argv.slice(2);
const btf = JSON.parse(execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', object], { encoding: 'utf8' })) as {
  types: BtfType[];
};
const byId = new Map(btf.types.map((type) => [type.id, type]));

const fail = (why: string): never => {
  throw new Error(`generate from "${object}": ${why}`);
};
const typeOf = (id: number | undefined): BtfType => byId.get(id ?? 0) ?? fail(`no BTF type ${id}`);
const camel = (name: string): string => name.replace(/_+(.)/g, (_, letter: string) => letter.toUpperCase());
const pascal = (name: string): string => camel(`_${name}`);

/** Through typedefs and qualifiers, keeping the last name that says something about byte order. */
function resolve(id: number): { type: BtfType; order: 'host' | 'network' } {
  let order: 'host' | 'network' = 'host';
  let type = typeOf(id);
  while (['TYPEDEF', 'CONST', 'VOLATILE'].includes(type.kind)) {
    if (type.name.startsWith('__be')) order = 'network';
    type = typeOf(type.type_id);
  }
  return { type, order };
}

const sizeOf = (id: number): number => {
  const { type } = resolve(id);
  if (type.kind === 'ARRAY') return (type.nr_elems ?? 0) * sizeOf(type.type_id ?? 0);
  return type.size ?? fail(`"${type.name}" (${type.kind}) has no size`);
};

/** The codec expression and TypeScript type of a field; anything else than integers and arrays is refused. */
function codecOf(id: number, offset: number): { code: string; type: string } {
  const { type, order } = resolve(id);
  if (type.kind === 'INT' || type.kind === 'ENUM') {
    const bits = (type.size ?? 0) * 8;
    const kind = order === 'network' ? `be${bits}` : `u${bits}`;
    return { code: `${kind}(${offset})`, type: bits === 64 ? 'bigint' : 'number' };
  }
  if (type.kind === 'ARRAY') return { code: `bytes(${offset}, ${sizeOf(id)})`, type: 'Uint8Array' };
  return fail(`field of kind ${type.kind} cannot be described`);
}

const enums = btf.types.filter((type) => type.kind === 'ENUM' && type.name !== '(anon)');
const emitted = new Set([
  'abi',
  'agent_result',
  'nat_abi',
  'nat_limit',
  'nat_state',
  'nat_outcome',
  'reason',
  'tally',
  'key_kind',
  'service_flag',
  'icmp_kind',
  'quic_limit',
  'fragment_kind',
  'fragment_limit',
  'budget_limit',
  'family',
  'backend_flag',
  'flow_limit',
  'flow_state',
  'vip_filter_limit',
  'service_limit',
]);
const section = (name: string): BtfType[] =>
  (btf.types.find((type) => type.kind === 'DATASEC' && type.name === name) ?? fail(`no section ${name}`)).vars?.map(
    (v) => typeOf(v.type_id),
  ) ?? [];

function enumCode(type: BtfType): string {
  const prefix = `${type.name.replace(/_(limit|state|flag|kind)$/, '').toUpperCase()}_`;
  const rows = (type.values ?? []).map((v) => `  ${v.name.replace(prefix, '')}: ${v.val >>> 0},`);
  return `export const ${pascal(type.name)} = {\n${rows.join('\n')}\n} as const;\n`;
}

/** The struct a member is, or is an array of; null for integers and their arrays. */
function innerStruct(id: number): BtfType | null {
  const { type } = resolve(id);
  if (type.kind === 'ARRAY') return innerStruct(type.type_id ?? 0);
  return type.kind === 'STRUCT' ? type : null;
}

/** A struct made of structs: only where they lie. */
function frameCode(type: BtfType): string {
  const members = (type.members ?? []).filter((member) => !member.name.startsWith('pad'));
  const offsets = members.map((member) => `${camel(member.name)}: ${member.bits_offset / 8}`).join(', ');
  return `export const ${pascal(type.name)} = { size: ${type.size}, offset: { ${offsets} } } as const;\n`;
}

function structCode(type: BtfType): string {
  const fields = (type.members ?? []).filter((member) => !member.name.startsWith('pad'));
  const rows = fields.map((member) => {
    if (member.bitfield_size) fail(`bit field "${type.name}.${member.name}"`);
    return { name: camel(member.name), ...codecOf(member.type_id, member.bits_offset / 8) };
  });
  const name = pascal(type.name);
  return (
    `export interface ${name} {\n${rows.map((row) => `  ${row.name}: ${row.type};`).join('\n')}\n}\n` +
    `export const ${name} = struct<${name}>(${type.size}, {\n${rows.map((row) => `  ${row.name}: ${row.code},`).join('\n')}\n});\n`
  );
}

interface MapShape {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly maxEntries: number;
  readonly key: string;
  readonly value: string;
  readonly keySize: number;
  readonly valueSize: number;
}

function mapShape(variable: BtfType): MapShape {
  const members = new Map(resolve(variable.type_id ?? 0).type.members?.map((m) => [m.name, typeOf(m.type_id)]) ?? []);
  // __uint(x, n) is a pointer to an array of n; __type(x, t) a pointer to t.
  const number = (name: string): number => (members.has(name) ? (typeOf(members.get(name)?.type_id).nr_elems ?? 0) : 0);
  const target = (name: string): number =>
    members.get(name)?.type_id ?? fail(`map "${variable.name}" has no __type(${name})`);
  const named = (id: number): string => {
    const { type } = resolve(id);
    if (type.kind === 'ARRAY') return `${named(type.type_id ?? 0)}[${type.nr_elems}]`;
    return type.kind === 'STRUCT' ? type.name : `__u${sizeOf(id) * 8}`;
  };
  return {
    name: variable.name,
    type: number('type'),
    flags: number('map_flags'),
    maxEntries: number('max_entries'),
    key: named(target('key')),
    value: named(target('value')),
    keySize: sizeOf(target('key')),
    valueSize: sizeOf(target('value')),
  };
}

const maps = section('.maps').map(mapShape);
const DEVICE_MAP = 14;
/** A device map is its program's own: never taken over from another, nor read. */
const shared = maps.filter((map) => map.type !== DEVICE_MAP && map.name.startsWith(only));

function abi(): string {
  const roots = new Set(shared.flatMap((map) => [map.key, map.value]));
  const needed = new Set(
    btf.types
      .filter((type) => roots.has(type.name))
      .flatMap((type) => [type.name, ...(type.members ?? []).map((m) => innerStruct(m.type_id)?.name)]),
  );
  const isTimer = (type: BtfType | null): boolean =>
    type?.name === 'bpf_timer' || (type?.members ?? []).some((m) => isTimer(innerStruct(m.type_id)));
  const structs = btf.types.filter((type) => type.kind === 'STRUCT' && needed.has(type.name) && !isTimer(type));
  const variables = (btf.types.some((type) => type.name === '.rodata') ? section('.rodata') : [])
    .filter((variable) => !variable.name.endsWith('_anchor') && variable.name.startsWith(only))
    .map(
      (variable) =>
        `  ${camel(variable.name)}: { name: '${variable.name}', ...${codecOf(variable.type_id ?? 0, 0).code} },`,
    );
  const body = [
    '// SPDX-License-Identifier: Apache-2.0',
    `// DO NOT EDIT: generated by \`npm run abi\` from the BTF of ${object.replace(/^build\/|\.bpf\.o$/g, '')}.c.`,
    `import { } from '${codec}';`,
    '',
    ...enums.filter((type) => emitted.has(type.name) && type.name.startsWith(only)).map(enumCode),
    ...structs.map((type) =>
      (type.members ?? []).some((m) => innerStruct(m.type_id)) ? frameCode(type) : structCode(type),
    ),
    '/** Every map that programs share, by its name in C; sizes in bytes, `maxEntries` is the default. */',
    'export const MapShape = {',
    ...shared.map(
      (map) =>
        `  ${map.name}: { type: ${map.type}, keySize: ${map.keySize}, valueSize: ${map.valueSize}, maxEntries: ${map.maxEntries}, flags: ${map.flags} },`,
    ),
    '} as const;',
    '',
    ...(variables.length > 0
      ? ['/** The switches in .rodata, set before load. */', 'export const Config = {', ...variables, '} as const;', '']
      : []),
  ].join('\n');
  const used = ['be16', 'be32', 'bytes', 'struct', 'u8', 'u16', 'u32', 'u64'].filter(
    (name) =>
      body.split('\n').slice(3).join('\n').includes(`${name}(`) || (name === 'struct' && body.includes('struct<')),
  );
  return body.replace(/import \{ \} from/, `import { ${used.join(', ')} } from`);
}

const TYPE_NAMES: Readonly<Record<number, string>> = {
  1: 'hash',
  2: 'array',
  6: 'per-CPU array',
  9: 'LRU hash',
  11: 'LPM trie',
  [DEVICE_MAP]: 'device map',
};

/** docs/maps.md: the comments of maps.h beside the figures of the object. */
function docs(): string {
  const header = readFileSync('bpf/lib/maps.h', 'utf8');
  const commentOf = (name: string): string => {
    const before = header.slice(0, header.indexOf(`} ${name} SEC`));
    return before
      .slice(before.lastIndexOf('/*') + 2, before.lastIndexOf('*/'))
      .replace(/\s+\*?\s*/g, ' ')
      .trim();
  };
  return [
    '# Maps',
    '',
    'Generated by `npm run abi` from `bpf/lib/maps.h` and the BTF of `xdp_lb`; do not edit. Sizes are bytes; "entries" is the',
    'default, which the daemon sets from its configuration before load. Layouts: `bpf/lib/types.h`.',
    '',
    '| map | type | key | value | entries | mmap | what |',
    '|---|---|---|---|---|---|---|',
    ...maps.map(
      (map) =>
        `| \`${map.name}\` | ${TYPE_NAMES[map.type] ?? map.type} | ${map.key} (${map.keySize}) | ${map.value} (${map.valueSize}) | ${map.maxEntries} | ${map.flags & 1024 ? 'yes' : ''} | ${commentOf(map.name)} |`,
    ),
    '',
  ].join('\n');
}

process.stdout.write(what === 'docs' ? docs() : abi());
